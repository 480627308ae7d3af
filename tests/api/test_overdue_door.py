"""`GET /v1/overdue`: what an operator is told of late orders, of their own tenant alone."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.late import CLOSINGS, LEARNED_FROM, LEAST_SECONDS, OPEN, OVER
from api.timeline import MOST_STORIES
from api.tokens import OPERATOR
from pavane.deploy.live import OPEN_STORIES
from streams.kit.migrations import migrate
from tests.api.conftest import token
from tests.api.stories import Teller, new_order
from tests.conftest import NewDatabase

#: Of a hundred stories one is under way and some are cancelled, as in a shop that works.
STORIES = """
    INSERT INTO stories
    SELECT gen_random_uuid(), 'shop', 'c7', status, CASE status WHEN 'confirmed' THEN 'dispatched' ELSE 'placed' END,
           '[]', 1200, 'EUR', '', at, at, CASE status WHEN 'placed' THEN NULL ELSE at END, 9
      FROM (SELECT now() - n * interval '10 minutes' AS at,
                   CASE WHEN n % 100 = 0 THEN 'placed' WHEN n % 20 = 1 THEN 'cancelled' ELSE 'confirmed' END AS status
              FROM generate_series(1, 50000) n) told
"""


def as_operator_of(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token('op1', tenant, OPERATOR)}"}


def new_tenant() -> str:
    return f"shop-{uuid4().hex[:8]}"


async def begun(environment: dict[str, str], tenant: str, order_id: str, told_ago: Mapping[str, str]) -> None:
    """An order with these facts, each said so long ago; placed when the first was."""
    await Teller(environment, tenant=tenant).tell(order_id, *told_ago)
    async with await psycopg.AsyncConnection.connect(environment["PAVANE_DATABASE_TIMELINE"]) as database:
        for fact, ago in told_ago.items():
            moved = "UPDATE entries SET at = now() - %s::interval WHERE order_id = %s AND fact = %s"
            await database.execute(moved, (ago, order_id, fact))
        first = "(SELECT min(at) FROM entries e WHERE e.order_id = s.order_id)"
        ended = "(SELECT at FROM entries e WHERE e.order_id = s.order_id AND e.fact = 'OrderCancelled')"
        moved = f"UPDATE stories s SET placed_at = {first}, settled_at = {ended} WHERE order_id = %s"
        await database.execute(moved.encode(), (order_id,))


async def test_a_late_order_is_told_with_whom_it_waits_for(shop: httpx.AsyncClient, environment: dict[str, str]):
    tenant, order_id = new_tenant(), new_order()
    facts = dict.fromkeys(("OrderPlaced", "InvoiceOpened", "ShipmentPlanned"), "1 hour")
    await begun(environment, tenant, order_id, facts)

    found = await shop.get("/v1/overdue", headers=as_operator_of(tenant))

    assert found.status_code == 200
    [late] = found.json()["orders"]
    assert (late["order_id"], late["status"], late["speaker"]) == (order_id, "placed", "inventory")
    assert late["facts"] == ["StockReserved", "StockRejected"]
    assert late["waited_seconds"] >= 3600
    assert (late["reason"], late["remedy"]) == (None, None), "there is no desk here that could find out"


async def test_an_operator_of_another_tenant_sees_nothing_of_it(shop: httpx.AsyncClient, environment: dict[str, str]):
    await begun(environment, new_tenant(), new_order(), {"OrderPlaced": "1 hour"})

    found = await shop.get("/v1/overdue", headers=as_operator_of(new_tenant()))

    assert (found.status_code, found.json()) == (200, {"orders": []})


async def test_a_cancelled_order_whose_money_nobody_gives_back_is_told_days_later_as_well(
    shop: httpx.AsyncClient, environment: dict[str, str]
):
    tenant, order_id = new_tenant(), new_order()
    await begun(environment, tenant, order_id, {"OrderPlaced": "5 days", "OrderCancelled": "4 days"})

    found = await shop.get("/v1/overdue", headers=as_operator_of(tenant))

    orders = found.json()["orders"]
    assert {(each["order_id"], each["status"]) for each in orders} == {(order_id, "cancelled")}
    assert "billing" in {each["speaker"] for each in orders}


async def test_an_older_order_that_is_not_late_hides_no_late_one(shop: httpx.AsyncClient, environment: dict[str, str]):
    tenant, older, late = new_tenant(), new_order(), new_order()
    planned = dict.fromkeys(("OrderPlaced", "InvoiceOpened", "ShipmentPlanned"), "2 hours")
    await begun(environment, tenant, older, {**planned, "StockReserved": "1 second"})
    await begun(environment, tenant, late, {"OrderPlaced": "1 hour"})

    found = await shop.get("/v1/overdue", params={"limit": 1}, headers=as_operator_of(tenant))

    assert [each["order_id"] for each in found.json()["orders"]] == [late]


@pytest.mark.parametrize(
    ("question", "values"),
    [
        (OPEN, {"tenant": "shop", "least": LEAST_SECONDS, "most": MOST_STORIES, "closings": CLOSINGS}),
        (OVER, {"most": LEARNED_FROM}),
        (OPEN_STORIES, {"closings": CLOSINGS}),
    ],
)
async def test_what_is_late_is_found_without_a_look_at_every_story(
    new_database: NewDatabase, question: str, values: dict[str, Any]
):
    url = await new_database()
    await asyncio.to_thread(migrate, "timeline", url)
    async with await psycopg.AsyncConnection.connect(url) as database:
        await database.execute(STORIES)
        await database.execute("ANALYZE stories")
        rows = await (await database.execute(f"EXPLAIN {question}".encode(), values)).fetchall()

    plan = "\n".join(line for (line,) in rows)
    assert "stories_" in plan
    assert "Seq Scan on stories" not in plan, plan
