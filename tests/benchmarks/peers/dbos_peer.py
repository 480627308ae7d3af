"""The saga as DBOS workflows: one workflow an order, durable in PostgreSQL; its id, the order's, deduplicates it.

    python dbos_peer.py migrate                       make tables and the queue
    python dbos_peer.py enqueue < orders.jsonl        preload the queue
    python dbos_peer.py work                          one worker process

As its documents advise: each change of a service's rows is a transaction of a datasource, which records the step in the
same commit; what the outside world is asked is a step, retried under the effect's own key. Orders, inventory, billing
and shipping are functions of one program: that is what DBOS is for. There is no log that others could hear.
"""

import json
import sys
import threading
from os import environ
from typing import Any

import psycopg
from common import ASK, DATABASE, WORLD
from dbos import DBOS, DBOSClient, EnqueueOptions, SQLAlchemyDatasource
from sqlalchemy import text

URL = DATABASE.replace("postgresql://", "postgresql+psycopg://")
QUEUE = "orders"
AT_ONCE = 32
Order = dict[str, Any]

rows = SQLAlchemyDatasource.create(URL, engine_kwargs={"pool_size": AT_ONCE, "max_overflow": 0})
_local = threading.local()


def run(statement: str, **words: Any) -> Any:
    return rows.sql_session().execute(text(statement), words)


@rows.transaction()
def place(order: Order) -> Order:
    skus = [line["sku"] for line in order["lines"]]
    prices = dict(run("SELECT sku, amount_minor FROM prices WHERE sku = ANY(:skus)", skus=skus).all())
    lines = [{**line, "unit_price_minor": prices[line["sku"]]} for line in order["lines"]]
    total = sum(line["quantity"] * line["unit_price_minor"] for line in lines)
    run(
        "INSERT INTO orders VALUES (:id, 'PLACED', :customer, :total, :method, CAST(:lines AS jsonb), "
        "CAST(:to AS jsonb))",
        id=order["order_id"], customer=order["customer"], total=total, method=order["payment_method"],
        lines=json.dumps(lines), to=json.dumps(order["ship_to"]),
    )  # fmt: skip
    return {**order, "lines": lines, "total_minor": total}


@rows.transaction()
def reserve(order: Order) -> None:
    for sku, quantity in sorted((line["sku"], line["quantity"]) for line in order["lines"]):
        run("UPDATE stock SET on_hand = on_hand - :n, reserved = reserved + :n WHERE sku = :sku", n=quantity, sku=sku)
    lines = json.dumps(order["lines"])
    run("INSERT INTO reservations VALUES (:id, 'RESERVED', CAST(:lines AS jsonb))", id=order["order_id"], lines=lines)


@rows.transaction()
def note_authorization(order: Order) -> None:
    run(
        "INSERT INTO invoices VALUES (:id, 'AUTHORIZED', :total, :method, true)",
        id=order["order_id"], total=order["total_minor"], method=order["payment_method"],
    )  # fmt: skip


@rows.transaction()
def note_booking(order: Order) -> None:
    to = json.dumps(order["ship_to"])
    run("INSERT INTO shipments VALUES (:id, 'BOOKED', CAST(:to AS jsonb), true)", id=order["order_id"], to=to)


@rows.transaction()
def note_capture(order: Order) -> None:
    run("UPDATE invoices SET status = 'CAPTURED' WHERE order_id = :id", id=order["order_id"])


@rows.transaction()
def confirm(order: Order) -> None:
    run("UPDATE orders SET status = 'CONFIRMED' WHERE order_id = :id", id=order["order_id"])


@rows.transaction()
def dispatch(order: Order) -> None:
    for sku, quantity in sorted((line["sku"], line["quantity"]) for line in order["lines"]):
        statement = "UPDATE stock SET reserved = reserved - :n, dispatched = dispatched + :n WHERE sku = :sku"
        run(statement, n=quantity, sku=sku)
    run("UPDATE reservations SET status = 'DISPATCHED' WHERE order_id = :id", id=order["order_id"])


@DBOS.step(retries_allowed=True)
def ask(effect: str, order_id: str) -> None:
    """Provider or carrier: durable, and the same when asked again."""
    if not hasattr(_local, "world"):
        _local.world = psycopg.connect(WORLD, autocommit=True)
    _local.world.execute(ASK, (f"{effect}/{order_id}", "done"))


@DBOS.workflow()
def saga(order: Order) -> str:
    placed = place(order)
    reserve(placed)
    ask("authorize", placed["order_id"])
    note_authorization(placed)
    ask("book", placed["order_id"])
    note_booking(placed)
    ask("capture", placed["order_id"])
    note_capture(placed)
    confirm(placed)
    dispatch(placed)
    return "CONFIRMED"


def enqueue() -> None:
    client = DBOSClient(system_database_url=environ["PEER_SYSTEM"])
    for line in sys.stdin:
        order = json.loads(line)
        options: EnqueueOptions = {
            "queue_name": QUEUE, "workflow_name": saga.__qualname__, "workflow_id": order["order_id"],
            "app_version": "peer",
        }  # fmt: skip
        client.enqueue(options, order)


def launch() -> None:
    DBOS(config={
        "name": "peer", "system_database_url": environ["PEER_SYSTEM"], "application_version": "peer",
        "log_level": "WARNING", "sys_db_pool_size": AT_ONCE, "executor_id": environ.get("PEER_WORKER", "local"),
    })  # fmt: skip
    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=AT_ONCE, polling_interval_sec=0.05)


def main() -> None:
    match sys.argv[1]:
        case "migrate":
            SQLAlchemyDatasource.migrate(URL)
            launch()
            DBOS.destroy()
        case "enqueue":
            enqueue()
        case "work":
            launch()
            threading.Event().wait()


main()
