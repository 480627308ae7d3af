"""What a gateway still does while one of the parts that it stands on is away: the table in docs/operations.md."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.app import build
from api.probes import PROBE_SECONDS
from api.settings import GatewaySettings
from infra.addresses import KAFKA, REDIS
from tests.api.conftest import as_customer, as_operator, eventually, new_key, order, serving
from tests.api.stories import Teller, new_order
from tests.faults.proxy import BOTH, QUESTIONS, Proxy

PAGE = Path("docs/operations.md")
TIMELINE, KEYS = "PAVANE_DATABASE_TIMELINE", "PAVANE_DATABASE_KEYS"
#: What is away, and the settings that name it: both databases are on one server here.
PARTS = {"Redis": [REDIS], "PostgreSQL": [TIMELINE, KEYS], "Kafka": [KAFKA]}
ROUTES = (
    "place an order",
    "an order",
    "one's own orders",
    "call an order off",
    "stock or a price, shown lately",
    "stock or a price, not shown lately",
    "set a price",
    "/health/ready",
    "/health/deep",
)


class Door(NamedTuple):
    """A gateway that reaches one of its parts through proxies, and what is known of an order and two items."""

    http: httpx.AsyncClient
    proxies: list[Proxy]
    order_id: str
    customer: str
    lately: str
    never: str

    async def ask(self, route: str) -> httpx.Response:
        mine = as_customer(self.customer)
        match route:
            case "place an order":
                # Nobody whose key was learned in the last seconds.
                someone = as_customer(f"new-{uuid4().hex[:8]}", idempotency_key=new_key())
                return await self.http.post("/v1/orders", json=order(), headers=someone)
            case "an order":
                return await self.http.get(f"/v1/orders/{self.order_id}", headers=mine)
            case "one's own orders":
                return await self.http.get("/v1/orders", headers=mine)
            case "call an order off":
                return await self.http.post(f"/v1/orders/{self.order_id}/cancellation", headers=mine)
            case "stock or a price, shown lately":
                return await self.http.get(f"/v1/stock/{self.lately}", headers=mine)
            case "stock or a price, not shown lately":
                return await self.http.get(f"/v1/prices/{self.never}", headers=mine)
            case "set a price":
                body = {"amount_minor": 1, "currency": "EUR"}
                return await self.http.put(f"/v1/prices/{self.never}", json=body, headers=as_operator())
            case _:
                return await self.http.get(route, headers=as_operator())


def in_the_table() -> dict[str, dict[str, str]]:
    """By what is away: each route, and what the page says of it."""
    _, table = PAGE.read_text().split("## What works while a part is away")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines() if row.startswith("|")]
    [heading], rows = rows[:1], [row for row in rows[1:] if not row[0].startswith("-")]
    return {
        part: {row[0].replace("`", ""): row[heading.index(f"without {part}")] for row in rows if len(row) > 2}
        for part in PARTS
    }


@asynccontextmanager
async def door(environment: dict[str, str], variables: Sequence[str]) -> AsyncIterator[Door]:
    customer = f"c-{uuid4().hex[:8]}"
    teller, order_id = Teller(environment, customer), new_order()
    await teller.tell(order_id, "OrderPlaced")
    skus = [f"lamp-{uuid4().hex[:8]}" for _ in range(2)]
    async with await psycopg.AsyncConnection.connect(environment[TIMELINE]) as database:
        for sku in skus:
            await database.execute("INSERT INTO shelves VALUES (%s, 5, 0, 0)", (f"shop/{sku}",))
            await database.execute("INSERT INTO tags VALUES (%s, 5, 'EUR')", (f"shop/{sku}",))
    async with AsyncExitStack() as open_:
        proxies, through = [], dict(environment)
        for variable in variables:
            upstream = urlsplit(environment[variable] if variable != KAFKA else f"//{environment[variable]}")
            assert upstream.hostname is not None
            assert upstream.port is not None
            proxy = Proxy(upstream.hostname, upstream.port, advertises=variable == KAFKA)
            proxies.append(await open_.enter_async_context(proxy))
            there = f"{upstream.hostname}:{upstream.port}"
            through[variable] = environment[variable].replace(there, f"{proxy.host}:{proxy.port}")
        url = await open_.enter_async_context(serving(build(GatewaySettings.read(through))))
        http = await open_.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30))
        found = Door(http, proxies, order_id, customer, *skus)
        await eventually(lambda: is_ready(found), 30)
        yield found


async def is_ready(found: Door) -> bool:
    return bool((await found.http.get("/health/ready")).json()["status"] == "ready")


def statuses(said: str) -> set[int]:
    return {int(number) for number in re.findall(r"\b[2-5]\d\d\b", said)}


@pytest.mark.parametrize("part", PARTS)
async def test_what_the_table_says_works_without_a_part_does(
    environment: dict[str, str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.deep.PATIENCE_SECONDS", 1.0)
    said = in_the_table()[part]
    assert said.keys() >= set(ROUTES), "every route is in the table"
    async with door(environment, PARTS[part]) as found:
        assert (await found.ask("stock or a price, shown lately")).json()["available"] == 5
        for proxy in found.proxies:
            proxy.cut()
        # Not asked about what is remembered for some seconds: the keys of persons.
        if part == "PostgreSQL":
            await eventually(lambda: is_503(found), 30)
        answers = {route: await found.ask(route) for route in ROUTES}

        for route, answer in answers.items():
            assert answer.status_code in statuses(said[route]), f"{route} without {part}: {answer.text}"
            if answer.status_code == 503 and route.startswith(("place", "an ", "one", "call", "set")):
                assert answer.headers["retry-after"], f"{route}: waiting helps"
            assert "127.0.0.1" not in answer.text, f"{route}: strangers learn no address"
        assert all(proxy.refused for proxy in found.proxies), f"{part} was asked for, and not there"
        for proxy in found.proxies:
            proxy.let_through()
        await eventually(lambda: is_ready(found), 30)
        placed = await asyncio.gather(*(found.ask("place an order") for _ in range(3)))
        assert [answer.status_code for answer in placed] == [202] * 3


READERS = 40
SECONDS = 8.0
"""For all readers: a place is waited for, then an answer that is late."""


async def test_a_timeline_that_says_nothing_is_told_within_seconds_and_orders_are_taken(
    environment: dict[str, str],
) -> None:
    async with door(environment, [TIMELINE]) as found:
        [proxy] = found.proxies
        proxy.stall(*BOTH)
        async with asyncio.timeout(SECONDS):
            answers = await asyncio.gather(*(found.ask("one's own orders") for _ in range(READERS)))
        assert {answer.status_code for answer in answers} == {503}
        assert proxy.held[QUESTIONS], "it was asked, and said nothing"
        assert (await found.ask("place an order")).status_code == 202
        began = time.monotonic()
        health = await found.ask("/health/ready")
        assert (health.status_code, list(health.json()["missing"])) == (503, ["timeline"])
        assert time.monotonic() - began < PROBE_SECONDS + 1.0
        proxy.let_through()
        await eventually(lambda: is_ready(found), 30)
        assert (await found.ask("one's own orders")).status_code == 200


async def is_503(found: Door) -> bool:
    return (await found.ask("an order")).status_code == 503
