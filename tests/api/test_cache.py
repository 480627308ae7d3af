"""What is kept for all gateways, on a real Redis and the timeline's real database: asked once, never older than what
was told, and not needed for anything."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import cache as caching
from api import watched
from api.cache import JITTER, Cache, Name, Reading, State, new_token, version_of
from api.errors import Unavailable
from api.reads import Reads
from api.telemetry import CACHE
from api.timeline import ORDER, PRICE, STOCK, Timeline
from infra.stack import Stack
from tests.api.conftest import eventually
from tests.faults.proxy import Proxy

READERS = 1_000


@pytest.fixture
async def database(environment: dict[str, str]) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    url = environment["PAVANE_DATABASE_TIMELINE"]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def reads(
    environment: dict[str, str], redis: str = "", database: str = "", *, watches: bool = True
) -> AsyncIterator[Reads]:
    """What a gateway reads with. Without `watches` it learns of no change by itself."""
    timeline = Timeline(database or environment["PAVANE_DATABASE_TIMELINE"])
    await timeline.open()
    found = Reads(timeline, Cache(redis or environment["PAVANE_REDIS"]))
    if watches:
        found.start()
    yield found
    await found.close()
    await timeline.close()


async def new_item(database: psycopg.AsyncConnection[Any], available: int = 7) -> str:
    sku = f"lamp-{uuid4().hex[:12]}"
    await database.execute("INSERT INTO shelves VALUES (%s, %s, 0, 0)", (f"shop/{sku}", available))
    await database.execute("INSERT INTO tags VALUES (%s, %s, 'EUR')", (f"shop/{sku}", available))
    return sku


async def put(database: psycopg.AsyncConnection[Any], sku: str, available: int) -> None:
    await database.execute("UPDATE shelves SET available = %s WHERE item = %s", (available, f"shop/{sku}"))


async def available(found: Reads, sku: str) -> int:
    stock = await found.stock("shop", sku)
    assert stock is not None
    return stock.available


def counted(kind: str) -> dict[str, float]:
    """How readings of this kind went, by outcome."""
    [family] = CACHE.collect()
    return {
        sample.labels["outcome"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["kind"] == kind
    }


async def queries(admin: str) -> int:
    """How often PostgreSQL has executed the query for one item's stock, since it started."""
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        found = await connection.execute(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements "
            "WHERE query LIKE '%FROM shelves WHERE item = $%' AND query NOT LIKE '%ANY(%'"
        )
        row = await found.fetchone()
    assert row is not None
    return int(row[0])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=40))
def test_of_two_snapshots_the_one_that_saw_more_has_the_higher_version(steps: list[tuple[bool, int]]) -> None:
    """Transactions begin and end in any order; each end is seen by every snapshot after it, and raises the version."""
    running: list[int] = []
    xmax = 700
    before = version_of(f"{xmax}:{xmax}:")
    for begins, which in steps:
        has_ended = bool(running) and not begins
        if has_ended:
            del running[which % len(running)]
        else:
            running.append(xmax)
            xmax += 1
        now = version_of(f"{min(running, default=xmax)}:{xmax}:{','.join(map(str, running))}")
        assert now > before, "something began or ended in between"
        before = now


async def test_the_real_database_gives_a_later_reading_the_higher_version(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any]
) -> None:
    """Also when what began first is committed last, and when nobody has written anything in between."""
    sku, url = await new_item(database), environment["PAVANE_DATABASE_TIMELINE"]
    async with reads(environment, watches=False) as found, await psycopg.AsyncConnection.connect(url) as early:
        item = Name(STOCK, ("shop", sku))
        seen = []

        async def see() -> None:
            one = await found._timeline.reading(item)
            assert one is not None
            seen.append((one.version, one.body))

        await early.execute("UPDATE shelves SET available = 8 WHERE item = %s", (f"shop/{sku}",))
        await see()
        await new_item(database)
        await see()
        await early.commit()
        await see()

    versions = [version for version, _ in seen]
    assert versions == sorted(versions)
    assert seen[0][1] == seen[1][1] != seen[2][1]
    assert versions[0] < versions[1] < versions[2]


async def test_a_thousand_readers_of_one_cold_item_at_two_gateways_make_one_query(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any], stack: Stack
) -> None:
    sku = await new_item(database)
    async with reads(environment) as one, reads(environment) as other:
        before = await queries(stack.addresses.postgres_admin)
        asked = [available(each, sku) for each in (one, other) for _ in range(READERS // 2)]

        assert await asyncio.gather(*asked) == [7] * READERS
        assert await queries(stack.addresses.postgres_admin) - before == 1


async def test_what_does_not_change_is_asked_for_once_and_what_changes_is_seen(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any]
) -> None:
    sku = await new_item(database)
    async with reads(environment) as found:
        before = counted(STOCK)
        assert {await available(found, sku) for _ in range(50)} == {7}
        after = counted(STOCK)
        assert after["loaded"] - before.get("loaded", 0) <= 2, "once, and once more if the database has changed then"
        assert after["fresh"] - before.get("fresh", 0) >= 48

        for number in range(3):
            await put(database, sku, number)
            await eventually(lambda number=number: is_now(found, sku, number))


async def is_now(found: Reads, sku: str, number: int) -> bool:
    return await available(found, sku) == number


async def test_old_never_overwrites_new(environment: dict[str, str], database: psycopg.AsyncConnection[Any]) -> None:
    sku = await new_item(database, 1)
    item = Name(STOCK, ("shop", sku))
    async with reads(environment, watches=False) as found:
        timeline, cache = found._timeline, found._cache
        assert cache is not None
        old = await timeline.reading(item)
        await put(database, sku, 2)
        new = await timeline.reading(item)
        assert old is not None
        assert new is not None

        assert await cache.keep(item, new_token(), new)
        assert not await cache.keep(item, new_token(), old), "what was read before is kept no more"
        assert (await cache.look(item, new_token(), "")).body == new.body

        # It changes, and is outdated, while somebody who read it before is still on the way.
        await put(database, sku, 3)
        version, _ = await timeline.marks(STOCK, [item])
        await cache.outdate([item], version)
        assert not await cache.keep(item, new_token(), new)
        assert (await cache.look(item, new_token(), "")).state is State.LOAD


async def test_what_is_stale_is_given_to_all_and_read_again_by_one(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Name(STOCK, ("shop", new_token()))
    cache = Cache(environment["PAVANE_REDIS"])
    monkeypatch.setattr(caching, "FRESH_MS", 0)
    await cache.keep(item, new_token(), Reading(b"old", "1", "m"))
    first, second = new_token(), new_token()

    assert await cache.look(item, first, "") == (State.REVALIDATE, b"old", "m")
    assert await cache.look(item, second, "") == (State.STALE, b"old", "m")
    monkeypatch.setattr(caching, "FRESH_MS", 60_000)
    await cache.keep(item, first, Reading(b"new", "2", "n"))
    assert await cache.look(item, second, "") == (State.FRESH, b"new", "n")
    await cache.close()


async def test_who_asks_for_what_is_stale_does_not_wait_for_the_database(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "FRESH_MS", 0)
    sku, url = await new_item(database), environment["PAVANE_DATABASE_TIMELINE"]
    async with reads(environment, watches=False) as found, await psycopg.AsyncConnection.connect(url) as changing:
        assert await available(found, sku) == 7
        before = counted(STOCK)
        await changing.execute("LOCK TABLE shelves IN ACCESS EXCLUSIVE MODE")
        await changing.execute("UPDATE shelves SET available = 8 WHERE item = %s", (f"shop/{sku}",))

        assert {await available(found, sku) for _ in range(20)} == {7}
        assert counted(STOCK).get("revalidated", 0) == before.get("revalidated", 0), "the database holds it up"
        await changing.commit()
        await eventually(lambda: is_now(found, sku, 8))
        after = counted(STOCK)
        assert after["stale"] - before.get("stale", 0) >= 20
        assert after["revalidated"] > before.get("revalidated", 0)


async def test_what_was_kept_together_does_not_end_together(environment: dict[str, str]) -> None:
    """By Redis's own times, so that it does not matter how long this takes."""
    cache = Cache(environment["PAVANE_REDIS"])
    kind = f"kind-{new_token()}"
    fresh, stale = set(), set()
    for number in range(50):
        name = Name(kind, (str(number),))
        await cache.keep(name, new_token(), Reading(b"x", "1", "m"))
        kept_at = await cache._redis.zscore(f"pavane:cache:known:{kind}", json.dumps(name.which))
        fresh_until = int(await cache._redis.hget(name.key, "fresh"))
        fresh.add(fresh_until - kept_at)
        stale.add(await cache._redis.pexpiretime(name.key) - fresh_until)
    await cache.close()

    for times, usual in ((fresh, caching.FRESH_MS), (stale, caching.STALE_MS)):
        assert usual * (1 - JITTER) <= min(times) < max(times) <= usual * (1 + JITTER) + 1
        assert max(times) - min(times) > usual * JITTER


async def test_who_asks_after_a_change_was_told_is_not_given_a_reading_that_began_before(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any]
) -> None:
    sku = await new_item(database, 1)
    item = Name(STOCK, ("shop", sku))
    async with reads(environment, watches=False) as found:
        early = asyncio.create_task(available(found, sku))
        await asyncio.sleep(0)
        await put(database, sku, 2)
        version, _ = await found._timeline.marks(STOCK, [item])
        await found._outdate([item], version)

        assert await available(found, sku) == 2
        assert await early in (1, 2)
        assert await available(found, sku) == 2


async def test_one_price_is_another_tenants_business(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any]
) -> None:
    sku = await new_item(database)
    async with reads(environment) as found:
        assert await found.price("shop", sku) is not None
        assert await found.price("rival", sku) is None
        assert await found.price("shop", f"{sku}x") is None


async def test_a_new_gateway_has_read_what_is_asked_for_before_it_is_ready(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "FRESH_MS", 60_000)
    sku = await new_item(database)
    async with reads(environment) as found:
        await available(found, sku)
    cold = Name(STOCK, ("shop", sku)).key
    async with reads(environment, watches=False) as found:
        assert found._cache is not None
        await found._cache._redis.delete(cold)
        with pytest.raises(ConnectionError, match="warmed"):
            await found.reachable()
        found.start()
        await eventually(is_reachable(found))
        before = counted(STOCK)
        assert await available(found, sku) == 7

        now = counted(STOCK)
        assert now.get("loaded", 0) == before.get("loaded", 0)
        assert now["fresh"] == before.get("fresh", 0) + 1


def is_reachable(found: Reads) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        try:
            await found.reachable()
        except ConnectionError:
            return False
        return True

    return reached


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    upstream = urlsplit(url)
    assert upstream.hostname is not None
    assert upstream.port is not None
    async with Proxy(upstream.hostname, upstream.port) as proxy:
        yield proxy, url.replace(f"{upstream.hostname}:{upstream.port}", f"{proxy.host}:{proxy.port}")


async def test_what_changed_while_redis_was_away_is_not_shown_as_it_was_when_it_is_back(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any]
) -> None:
    sku = await new_item(database, 1)
    async with proxied(environment["PAVANE_REDIS"]) as (proxy, redis), reads(environment, redis) as found:
        assert await available(found, sku) == 1
        proxy.cut()
        refused = proxy.refused
        await put(database, sku, 2)
        await eventually(lambda: is_now(found, sku, 2))
        assert proxy.refused > refused, "Redis was asked for, and not there"

        proxy.let_through()
        found._away_until = 0.0
        assert {await available(found, sku) for _ in range(20)} == {2}


async def test_without_the_database_what_was_read_lately_is_shown_and_nothing_else_is(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "FRESH_MS", 100)
    sku, other = await new_item(database), await new_item(database)
    url = environment["PAVANE_DATABASE_TIMELINE"]
    async with proxied(url) as (proxy, through), reads(environment, database=through) as found:
        assert await available(found, sku) == 7
        proxy.cut()
        before = counted(STOCK).get("stale", 0)

        async def is_stale() -> bool:
            return await available(found, sku) == 7 and counted(STOCK).get("stale", 0) > before

        await eventually(is_stale)
        with pytest.raises(Unavailable):
            await found.stock("shop", other)
        assert proxy.refused, "the database was asked for, and not there"
        proxy.let_through()

        async def is_back() -> bool:
            try:
                return await available(found, other) == 7
            except Unavailable:
                return False

        await eventually(is_back)


async def test_what_is_asked_for_by_too_many_is_read_from_the_database(
    environment: dict[str, str], database: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "MOST_WATCHED", 2)
    skus = [await new_item(database) for _ in range(4)]
    async with reads(environment) as found:
        before = counted(PRICE).get("unwatched", 0)
        prices = [await found.price("shop", sku) for sku in skus]

        assert all(price is not None and price.amount_minor == 7 for price in prices)
        assert counted(PRICE)["unwatched"] > before


class OneIsOdd:
    """A timeline that cannot read one of the orders that it is asked for."""

    def __init__(self) -> None:
        self.read: list[Name] = []

    async def reading(self, name: Name) -> Reading | None:
        order_id, _, _ = name.which
        self.read.append(name)
        return Reading(order_id.encode(), "1", "1")

    async def marks(self, kind: str, names: Any) -> tuple[str, dict[Name, str]]:
        return "1", {}

    async def reachable(self) -> None: ...


class Lately(Cache):
    """A cache in which two orders were kept lately, one of them under a name that nobody makes."""

    def __init__(self) -> None: ...

    async def known(self, kind: str, most: int) -> list[Name]:
        return [Name(ORDER, ("odd",)), Name(ORDER, ("o-1", "shop", "c7"))] if kind == ORDER else []

    async def outdate(self, names: Any, version: str) -> int:
        return 0

    async def keep(self, name: Name, token: str, reading: Reading) -> bool:
        return True

    async def close(self) -> None: ...


async def test_one_reading_that_fails_does_not_keep_a_gateway_from_being_ready():
    timeline = OneIsOdd()
    found = Reads(cast("Timeline", timeline), Lately())
    found.start()

    async def is_ready() -> bool:
        try:
            await found.reachable()
        except ConnectionError:
            return False
        return True

    await eventually(is_ready, 5)
    await found.close()

    assert [name.which for name in timeline.read] == [("o-1", "shop", "c7")]


def test_a_gateway_does_not_read_what_another_version_has_kept_in_another_form(monkeypatch: pytest.MonkeyPatch):
    ours = Name(STOCK, ("shop", "lamp")).key
    monkeypatch.setattr(caching, "FORM", "other")

    assert Name(STOCK, ("shop", "lamp")).key != ours
