"""The saga in FastStream on Kafka: choreographed, with an inbox and an outbox table; one process a service.

    python faststream_peer.py SERVICE

Message by message, as its documents write handlers: each is one transaction that notes the message in the inbox (known:
nothing happens), changes the service's rows and puts the facts it says into the outbox; then the offset is committed.
A relay in the same process takes outbox rows in order, up to 500 at a time, publishes them and deletes them. Facts are
JSON. A fact that comes before its cause leaves its mark in the row, and the later one of the two goes on.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import environ
from typing import Any

import msgspec
import uvloop
from common import ASK, DATABASE, WORLD
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

SERVICE = sys.argv[1]
PARTITIONS = 4
RELAYED_AT_ONCE = 500
PAUSE_SECONDS = 0.005

broker = KafkaBroker(environ["PEER_KAFKA"], acks="all", enable_idempotence=True, linger_ms=2, logger=None)
app = FastStream(broker)
database = AsyncConnectionPool(DATABASE, min_size=PARTITIONS, max_size=2 * PARTITIONS, open=False)
world = AsyncConnectionPool(WORLD, min_size=1, max_size=PARTITIONS, kwargs={"autocommit": True}, open=False)
Fact = dict[str, Any]


class Transaction:
    """One handler's transaction: rows, inbox and outbox together."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def row(self, statement: str, *words: Any) -> tuple[Any, ...] | None:
        cursor = await self._connection.execute(statement, words)
        return await cursor.fetchone() if cursor.description else None

    async def rows(self, statement: str, *words: Any) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(statement, words)).fetchall()

    async def many(self, statement: str, words: list[tuple[Any, ...]]) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.executemany(statement, words)

    async def say(self, name: str, order_id: str, **fields: Any) -> None:
        fact = msgspec.json.encode({**fields, "fact": name, "order_id": order_id})
        await self.row("INSERT INTO outbox (service, key, fact) VALUES (%s, %s, %s)", SERVICE, order_id, fact)


@asynccontextmanager
async def once(message: KafkaMessage) -> AsyncIterator[Transaction | None]:
    """A transaction in which this message is handled; None when it was handled before."""
    raw = message.raw_message
    async with database.connection() as connection:
        transaction = Transaction(connection)
        new = await transaction.row(
            "INSERT INTO inbox VALUES (%s, %s) ON CONFLICT DO NOTHING RETURNING 1",
            SERVICE, f"{raw.topic}/{raw.partition}/{raw.offset}",
        )  # fmt: skip
        yield transaction if new else None


async def ask(effect: str, order_id: str) -> None:
    """Provider or carrier: durable, and the same when asked again."""
    async with world.connection() as connection:
        await connection.execute(ASK, (f"{effect}/{order_id}", "done"))


async def place(t: Transaction, asked: Fact) -> None:
    skus = [line["sku"] for line in asked["lines"]]
    prices = dict(await t.rows("SELECT sku, amount_minor FROM prices WHERE sku = ANY(%s)", skus))
    lines = [{**line, "unit_price_minor": prices[line["sku"]]} for line in asked["lines"]]
    total = sum(line["quantity"] * line["unit_price_minor"] for line in lines)
    new = await t.row(
        "INSERT INTO orders VALUES (%s, 'PLACED', %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING 1",
        asked["order_id"], asked["customer"], total, asked["payment_method"], Jsonb(lines), Jsonb(asked["ship_to"]),
    )  # fmt: skip
    if new:
        await t.say("OrderPlaced", **{**asked, "lines": lines, "total_minor": total})


async def confirm(t: Transaction, fact: Fact) -> None:
    order_id = fact["order_id"]
    statement = "UPDATE orders SET status = 'CONFIRMED' WHERE order_id = %s AND status = 'PLACED' RETURNING 1"
    if await t.row(statement, order_id):
        await t.say("OrderConfirmed", order_id)


async def reserve(t: Transaction, placed: Fact) -> None:
    wanted = sorted((line["sku"], line["quantity"]) for line in placed["lines"])
    await t.rows("SELECT 1 FROM stock WHERE sku = ANY(%s) ORDER BY sku FOR UPDATE", [sku for sku, _ in wanted])
    await t.many(
        "UPDATE stock SET on_hand = on_hand - %s, reserved = reserved + %s WHERE sku = %s",
        [(quantity, quantity, sku) for sku, quantity in wanted],
    )
    await t.row("INSERT INTO reservations VALUES (%s, 'RESERVED', %s)", placed["order_id"], Jsonb(placed["lines"]))
    await t.say("StockReserved", placed["order_id"], lines=placed["lines"])


async def dispatch(t: Transaction, confirmed: Fact) -> None:
    statement = "UPDATE reservations SET status = 'DISPATCHED' WHERE order_id = %s RETURNING lines"
    [lines] = await t.row(statement, confirmed["order_id"]) or [[]]
    wanted = sorted((line["sku"], line["quantity"]) for line in lines)
    await t.rows("SELECT 1 FROM stock WHERE sku = ANY(%s) ORDER BY sku FOR UPDATE", [sku for sku, _ in wanted])
    await t.many(
        "UPDATE stock SET reserved = reserved - %s, dispatched = dispatched + %s WHERE sku = %s",
        [(quantity, quantity, sku) for sku, quantity in wanted],
    )
    await t.say("StockDispatched", confirmed["order_id"], lines=lines)


async def open_invoice(t: Transaction, placed: Fact) -> None:
    row = await t.row(
        "INSERT INTO invoices VALUES (%s, 'OPEN', %s, %s, false) ON CONFLICT (order_id) DO UPDATE "
        "SET amount_minor = excluded.amount_minor, method = excluded.method RETURNING reserved",
        placed["order_id"], placed["total_minor"], placed["payment_method"],
    )  # fmt: skip
    await t.say("InvoiceOpened", placed["order_id"], amount_minor=placed["total_minor"])
    if row and row[0]:
        await authorize(t, placed["order_id"])


async def stock_is_reserved(t: Transaction, fact: Fact) -> None:
    row = await t.row(
        "INSERT INTO invoices VALUES (%s, 'OPEN', NULL, NULL, true) ON CONFLICT (order_id) DO UPDATE "
        "SET reserved = true RETURNING amount_minor",
        fact["order_id"],
    )
    if row and row[0] is not None:
        await authorize(t, fact["order_id"])


async def authorize(t: Transaction, order_id: str) -> None:
    await ask("authorize", order_id)
    await t.row("UPDATE invoices SET status = 'AUTHORIZED' WHERE order_id = %s", order_id)
    await t.say("PaymentAuthorized", order_id, reference=f"pay_{order_id}")


async def capture(t: Transaction, booked: Fact) -> None:
    await ask("capture", booked["order_id"])
    await t.row("UPDATE invoices SET status = 'CAPTURED' WHERE order_id = %s", booked["order_id"])
    await t.say("PaymentCaptured", booked["order_id"], reference=f"pay_{booked['order_id']}")


async def plan(t: Transaction, placed: Fact) -> None:
    row = await t.row(
        "INSERT INTO shipments VALUES (%s, 'PLANNED', %s, false) ON CONFLICT (order_id) DO UPDATE "
        "SET ship_to = excluded.ship_to RETURNING paid",
        placed["order_id"], Jsonb(placed["ship_to"]),
    )  # fmt: skip
    await t.say("ShipmentPlanned", placed["order_id"], ship_to=placed["ship_to"])
    if row and row[0]:
        await book(t, placed["order_id"])


async def money_is_held(t: Transaction, fact: Fact) -> None:
    row = await t.row(
        "INSERT INTO shipments VALUES (%s, 'PLANNED', NULL, true) ON CONFLICT (order_id) DO UPDATE "
        "SET paid = true RETURNING ship_to",
        fact["order_id"],
    )
    if row and row[0] is not None:
        await book(t, fact["order_id"])


async def book(t: Transaction, order_id: str) -> None:
    await ask("book", order_id)
    await t.row("UPDATE shipments SET status = 'BOOKED' WHERE order_id = %s", order_id)
    await t.say("ShipmentBooked", order_id, reference=f"parcel_{order_id}")


REACTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "orders": {"requests": {"PlaceOrder": place}, "billing": {"PaymentCaptured": confirm}},
    "inventory": {"orders": {"OrderPlaced": reserve, "OrderConfirmed": dispatch}},
    "billing": {
        "orders": {"OrderPlaced": open_invoice},
        "inventory": {"StockReserved": stock_is_reserved},
        "shipping": {"ShipmentBooked": capture},
    },
    "shipping": {"orders": {"OrderPlaced": plan}, "billing": {"PaymentAuthorized": money_is_held}},
}


def hear(topic: str, reactions: dict[str, Any]) -> None:
    @broker.subscriber(
        f"peer.{topic}", group_id=f"peer-{SERVICE}-{topic}", auto_offset_reset="earliest", ack_policy=AckPolicy.ACK,
        max_workers=PARTITIONS,
    )  # fmt: skip
    async def handle(fact: Fact, message: KafkaMessage) -> None:
        react = reactions.get(fact["fact"])
        if react is not None:
            async with once(message) as transaction:
                if transaction is not None:
                    await react(transaction, fact)


async def relay() -> None:
    """Publish what was committed, in order; delete it in the same transaction once the log has it."""
    while True:
        async with database.connection() as connection:
            cursor = await connection.execute(
                "SELECT number, key, fact FROM outbox WHERE service = %s ORDER BY number LIMIT %s",
                (SERVICE, RELAYED_AT_ONCE),
            )
            rows = await cursor.fetchall()
            published = [broker.publish(fact, f"peer.{SERVICE}", key=key.encode()) for _, key, fact in rows]
            await asyncio.gather(*published)
            await connection.execute("DELETE FROM outbox WHERE number = ANY(%s)", ([number for number, *_ in rows],))
        if not rows:
            await asyncio.sleep(PAUSE_SECONDS)


async def main() -> None:
    await database.open(wait=True)
    await world.open(wait=True)
    for topic, reactions in REACTIONS[SERVICE].items():
        hear(topic, reactions)
    async with asyncio.TaskGroup() as group:
        group.create_task(app.run())
        group.create_task(relay())


uvloop.run(main())
