"""What the gateway shows, from the timeline's real database and from Redis."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from api.errors import Unavailable
from api.idempotency import name_of
from api.timeline import Timeline
from tests.api.conftest import NOWHERE, as_customer, eventually, frozen, new_key, order, records_of
from tests.api.stories import Teller, new_order, token_of


async def test_an_order_not_heard_of_yet_is_accepted_for_its_owner_and_unknown_to_others(shop: httpx.AsyncClient):
    placed = await shop.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=new_key()))
    address = placed.headers["location"]

    mine = await shop.get(address, headers=as_customer("c7"))
    theirs = await shop.get(address, headers=as_customer("c8"))

    assert (mine.json()["status"], mine.json()["stage"], mine.json()["story"]) == ("accepted", "asked", [])
    assert theirs.status_code == 404


async def test_an_order_not_heard_of_yet_can_be_cancelled(shop: httpx.AsyncClient, environment: dict[str, str]):
    placed = await shop.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=new_key()))
    order_id = placed.json()["order_id"]

    asked = await shop.post(f"/v1/orders/{order_id}/cancellation", headers=as_customer())

    assert (asked.status_code, asked.headers["location"]) == (202, f"/v1/orders/{order_id}")
    records = await records_of(environment["PAVANE_KAFKA"], "orders.requests", order_id)
    assert [dict(record.headers)["ce_type"] for record in records] == [b"PlaceOrder", b"CancelOrder"]


async def test_a_story_is_told_to_its_owner_in_causal_order(shop: httpx.AsyncClient, environment: dict[str, str]):
    order_id = name_of("shop", new_key())
    customer = await token_of(environment, "c7")
    async with await psycopg.AsyncConnection.connect(environment["PAVANE_DATABASE_TIMELINE"]) as database:
        lines = Jsonb([{"sku": "lamp", "quantity": 2, "unit_price_minor": 600}])
        await database.execute(
            "INSERT INTO stories VALUES (%s, 'shop', %s, 'placed', 'reserved', %s, 1200, 'EUR', '', now(), now(),"
            " NULL, 2)",
            (order_id, customer, lines),
        )
        placed = f"orders/0/{uuid4()}"
        said = (
            (placed, 9, "OrderPlaced", "orders", "12:00:00", "orders.requests/0/1"),
            (f"inventory/0/{uuid4()}", 12, "StockReserved", "inventory", "12:00:00.250", placed),
        )
        for entry, ordinal, fact, speaker, at, cause in said:
            await database.execute(
                "INSERT INTO entries VALUES (%s, %s, %s, %s, %s, %s, %s, 'c-1', '{}')",
                (entry, order_id, ordinal, fact, speaker, f"2026-03-01T{at}Z", cause),
            )

    mine = (await shop.get(f"/v1/orders/{order_id}", headers=as_customer("c7"))).json()
    theirs = await shop.get(f"/v1/orders/{order_id}", headers=as_customer("c8"))

    assert (mine["status"], mine["stage"], mine["total_minor"], mine["currency"]) == ("placed", "reserved", 1200, "EUR")
    assert mine["lines"] == [{"sku": "lamp", "quantity": 2, "unit_price_minor": 600}]
    assert [entry["fact"] for entry in mine["story"]] == ["OrderPlaced", "StockReserved"]
    assert [entry["took_seconds"] for entry in mine["story"]] == [None, 0.25]
    assert theirs.status_code == 404


async def test_a_story_is_told_of_to_its_owner_alone(environment: dict[str, str]):
    order_id = new_order()
    await Teller(environment, customer="c7").tell(order_id, "OrderPlaced")
    owner, other = await token_of(environment, "c7"), await token_of(environment, "c8")
    timeline = Timeline(environment["PAVANE_DATABASE_TIMELINE"])
    await timeline.open()

    told = [len(await timeline.told_of(order_id, "shop", customer)) for customer in (owner, other)]
    is_of_another = [await timeline.is_of_another(order_id, "shop", customer) for customer in (owner, other)]
    unheard = await timeline.is_of_another(new_order(), "shop", owner)
    await timeline.close()

    assert told == [1, 0]
    assert [*is_of_another, unheard] == [False, True, False]


async def test_stock_and_prices_are_the_tenants_own(shop: httpx.AsyncClient, environment: dict[str, str]):
    sku = f"lamp-{uuid4()}"
    async with await psycopg.AsyncConnection.connect(environment["PAVANE_DATABASE_TIMELINE"]) as database:
        await database.execute("INSERT INTO shelves VALUES (%s, -1, 3, 4)", (f"shop/{sku}",))
        await database.execute("INSERT INTO tags VALUES (%s, 600, 'EUR')", (f"shop/{sku}",))
        await database.execute("INSERT INTO tags VALUES (%s, 700, 'USD')", (f"other/{sku}",))

    stock = await shop.get(f"/v1/stock/{sku}", headers=as_customer())
    price = await shop.get(f"/v1/prices/{sku}", headers=as_customer())

    assert stock.json() == {"sku": sku, "available": 0, "reserved": 3, "dispatched": 4}
    assert price.json() == {"sku": sku, "amount_minor": 600, "currency": "EUR"}


async def test_connections_that_the_database_closed_are_replaced_unnoticed(
    shop: httpx.AsyncClient, environment: dict[str, str]
):
    async with await psycopg.AsyncConnection.connect(environment["PAVANE_DATABASE_TIMELINE"]) as database:
        ended = await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pavane-gateway'"
        )
        assert await ended.fetchall()

    answer = await shop.get(f"/v1/orders/{uuid4()}", headers=as_customer())

    assert answer.status_code == 404


async def test_a_database_that_is_not_there_is_told_as_it_is():
    timeline = Timeline(f"postgresql://x@{NOWHERE}/timeline")
    await timeline.open()

    with pytest.raises(Unavailable):
        await timeline.stock("shop", "lamp")
    await timeline.close()


async def test_a_ready_gateway_says_so(shop: httpx.AsyncClient):
    answer = await shop.get("/health/ready")

    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "missing": {}})


async def test_a_broker_that_stands_still_makes_the_gateway_unready(stack: Any, shop: httpx.AsyncClient):
    if not stack.kafka:
        pytest.skip("the broker is not ours to freeze")

    async def is_missed() -> bool:
        answer = await shop.get("/health/ready")
        return (answer.status_code, list(answer.json()["missing"])) == (503, ["kafka"])

    with frozen(stack.kafka[0].pid):
        await eventually(is_missed)
