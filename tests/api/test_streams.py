"""Orders as they happen: nothing is left out, whatever breaks, and who is slow holds up nobody."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg
import pytest

from api import feed, streams
from api.customers import Customer
from api.errors import EventsGone, TooManyStreams, Unavailable
from api.routes.live import _Told, read_positions, written_positions
from api.timeline import CONNECTIONS, MOST_CATCHING_UP, WAIT_SECONDS, Heads, Timeline
from tests.api.conftest import NOWHERE, Door, as_customer
from tests.api.stories import SAGA, Teller, new_order
from tests.waiting import eventually

FACTS = [fact for fact, _ in SAGA]
SOON = 15.0


@pytest.fixture
def teller(environment: dict[str, str]) -> Teller:
    return Teller(environment, customer=f"c-{uuid4().hex[:8]}")


@dataclass
class Stream:
    """What a client has read of an open stream."""

    status: int
    headers: httpx.Headers
    lines: list[str] = field(default_factory=list)
    ended: bool = False

    @property
    def events(self) -> list[dict[str, Any]]:
        blocks = "\n".join(self.lines).split("\n\n")
        read = [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line) for block in blocks]
        return [{**each, "data": json.loads(each["data"])} for each in read if "data" in each]

    @property
    def facts(self) -> list[str]:
        return [event["event"] for event in self.events]

    async def until(self, *facts: str) -> None:
        await eventually(lambda: self.facts == list(facts), SOON, f"{facts}, of {self.facts}")


@asynccontextmanager
async def opened(http: httpx.AsyncClient, path: str, customer: str, last: str = "") -> AsyncIterator[Stream]:
    headers = {**as_customer(customer), **({"Last-Event-ID": last} if last else {})}
    async with http.stream("GET", path, headers=headers, timeout=60) as answer:
        stream = Stream(answer.status_code, answer.headers)

        async def read() -> None:
            async for line in answer.aiter_lines():
                stream.lines.append(line)
            stream.ended = True

        reading = asyncio.create_task(read())
        try:
            yield stream
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def test_a_stream_tells_the_story_from_its_beginning_and_ends_with_it(shop: httpx.AsyncClient, teller: Teller):
    order_id = new_order()
    await teller.tell(order_id, *FACTS[:3])
    async with opened(shop, f"/v1/orders/{order_id}/events", teller.customer) as stream:
        await stream.until(*FACTS[:3])
        for number, fact in enumerate(FACTS[3:], 4):
            await teller.tell(order_id, fact)
            await stream.until(*FACTS[:number])
        await eventually(lambda: stream.ended, SOON, "the stream ends")

    first = stream.events[0]
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert first["id"] == first["data"]["id"]
    assert first["data"]["order_id"] == order_id
    shown = (await shop.get(f"/v1/orders/{order_id}", headers=as_customer(teller.customer))).json()["story"]
    assert [event["data"]["id"] for event in stream.events] == [entry["id"] for entry in shown]


async def test_a_stream_goes_on_behind_the_last_event_and_is_204_once_everything_is_told(
    shop: httpx.AsyncClient, teller: Teller
):
    order_id = new_order()
    path = f"/v1/orders/{order_id}/events"
    await teller.saga(order_id)
    async with opened(shop, path, teller.customer) as whole:
        await eventually(lambda: whole.ended, SOON, "the stream ends")
    assert whole.facts == FACTS

    async with opened(shop, path, teller.customer, last=whole.events[5]["id"]) as rest:
        await eventually(lambda: rest.ended, SOON, "the stream ends")
    async with opened(shop, path, teller.customer, last=whole.events[-1]["id"]) as nothing:
        pass
    async with opened(shop, path, teller.customer, last="made up") as again:
        await eventually(lambda: again.ended, SOON, "the stream ends")

    assert rest.events == whole.events[6:]
    assert nothing.status == 204
    assert again.events == whole.events


async def test_one_stream_tells_of_all_ones_own_orders_and_of_nobody_elses(shop: httpx.AsyncClient, teller: Teller):
    old, new, other = new_order(), new_order(), new_order()
    await teller.tell(old, *FACTS[:2])
    async with opened(shop, "/v1/orders/events", teller.customer) as stream:
        await Teller(teller.environment, customer="another").tell(other, "OrderPlaced")
        await Teller(teller.environment, customer=teller.customer, tenant="other").tell(new_order(), "OrderPlaced")
        await teller.tell(new, "OrderPlaced", lane=1)
        await teller.tell(old, "ShipmentPlanned")
        await eventually(lambda: {(new, "OrderPlaced"), (old, "ShipmentPlanned")} <= told(stream), SOON, "both")

    # What was told a moment before it opened may come as well.
    assert told(stream) <= {(new, "OrderPlaced"), *((old, fact) for fact in FACTS[:3])}


def told(stream: Stream) -> set[tuple[str, str]]:
    return {(event["data"]["order_id"], event["event"]) for event in stream.events}


async def test_nothing_is_left_out_and_nothing_comes_twice_when_a_stream_is_taken_up_again_and_again(
    shop: httpx.AsyncClient, teller: Teller
):
    """Facts are told in three lanes all the time, some of them late, while the client comes and goes."""
    orders = [new_order() for _ in range(12)]
    told: list[tuple[str, str]] = []

    async def tell() -> None:
        for fact in FACTS:
            for number, order_id in enumerate(orders):
                late = fact == "ShipmentPlanned" and number % 4 == 0
                await teller.tell(order_id, fact, lane=number % 3, parked=late)
                told.append((order_id, fact))

    seen: list[dict[str, Any]] = []
    last = ""
    async with opened(shop, "/v1/orders/events", teller.customer) as stream:
        telling = asyncio.create_task(tell())
        await eventually(lambda: stream.events, SOON, "an event")
    seen += stream.events
    while len({event["data"]["id"] for event in seen}) < len(orders) * len(FACTS):
        last = seen[-1]["id"]
        async with opened(shop, "/v1/orders/events", teller.customer, last) as stream:
            assert stream.status == 200
            await eventually(lambda: stream.events, SOON, f"more than {len(seen)} events of {len(told)}")
        seen += stream.events
    await telling

    assert {(event["data"]["order_id"], event["event"]) for event in seen} == set(told)
    of_one = {order_id: [e["event"] for e in seen if e["data"]["order_id"] == order_id] for order_id in orders}
    on_time = [facts for number, facts in enumerate(of_one.values()) if number % 4]
    assert all(list(dict.fromkeys(facts)) == FACTS for facts in on_time)


async def test_a_fact_that_was_parked_is_told_once(shop: httpx.AsyncClient, teller: Teller):
    order_id = new_order()
    async with opened(shop, "/v1/orders/events", teller.customer) as stream:
        await teller.tell(order_id, "OrderPlaced")
        await teller.tell(order_id, "InvoiceOpened", parked=True)
        await eventually(lambda: len(stream.events) == 2, SOON, "two events")
        await teller.tell(order_id, "ShipmentPlanned")
        await eventually(lambda: len(stream.events) >= 3, SOON, "three events")

    assert sorted(stream.facts) == ["InvoiceOpened", "OrderPlaced", "ShipmentPlanned"]


async def test_a_quiet_stream_is_kept_alive_by_comments_or_by_where_it_is(
    shop: httpx.AsyncClient, teller: Teller, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    order_id = new_order()
    await teller.tell(order_id, "OrderPlaced")
    async with opened(shop, f"/v1/orders/{order_id}/events", teller.customer) as stream:
        await eventually(lambda: stream.lines.count(":") >= 2, SOON, "two comments")
    async with opened(shop, "/v1/orders/events", teller.customer) as of_all:
        await eventually(lambda: sum(line.startswith("id: ") for line in of_all.lines) >= 3, SOON, "three ids")

    assert stream.lines[0] == of_all.lines[0] == "retry: 1000"


async def test_a_stream_ends_after_its_time_so_that_the_token_is_looked_at_again(
    shop: httpx.AsyncClient, teller: Teller, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streams, "LONGEST_SECONDS", 0.2)
    async with opened(shop, "/v1/orders/events", teller.customer) as stream:
        await eventually(lambda: stream.ended, SOON, "the stream ends")

    await eventually(lambda: _listeners(shop, 0), SOON, "nobody listens")


async def test_a_reader_that_is_too_slow_is_let_go_and_misses_nothing(
    shop: httpx.AsyncClient, teller: Teller, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(feed, "MOST_QUEUED", 5)
    first, rest = new_order(), [new_order() for _ in range(40)]
    async with opened(shop, "/v1/orders/events", teller.customer) as stream:
        await teller.tell(first, "OrderPlaced")
        await stream.until("OrderPlaced")
        # All of them are told in one round, before the stream's task has its turn.
        async with _held_back(shop, monkeypatch):
            for order_id in rest:
                await teller.tell(order_id, "OrderPlaced")
        await eventually(lambda: stream.ended, SOON, "the stream ends")
    assert len(stream.events) < 41
    monkeypatch.setattr(feed, "MOST_QUEUED", 256)

    async with opened(shop, "/v1/orders/events", teller.customer, stream.events[-1]["id"]) as again:
        await eventually(lambda: len(again.events) + len(stream.events) == 41, SOON, "all 41 events")

    assert {event["data"]["order_id"] for event in stream.events + again.events} == {first, *rest}


@asynccontextmanager
async def _held_back(shop: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The feed reads nothing within the block."""
    held, free = asyncio.Event(), asyncio.Event()
    real = feed.Feed._round

    async def later(self: feed.Feed) -> bool:
        held.set()
        await free.wait()
        return await real(self)

    with monkeypatch.context() as patched:
        patched.setattr(feed.Feed, "_round", later)
        await held.wait()
        yield
        free.set()
        await asyncio.sleep(0)


async def test_somebody_elses_order_has_no_stream_and_nobody_is_left_listening(shop: httpx.AsyncClient, teller: Teller):
    order_id = new_order()
    await teller.tell(order_id, "OrderPlaced")

    answer = await shop.get(f"/v1/orders/{order_id}/events", headers=as_customer("another"))

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    await eventually(lambda: _listeners(shop, 0), SOON, "nobody listens")


async def test_a_position_too_far_back_is_refused_and_one_that_is_none_is_pointed_at(
    shop: httpx.AsyncClient, teller: Teller, monkeypatch: pytest.MonkeyPatch
):
    await teller.saga(new_order())
    monkeypatch.setattr("api.routes.live.MOST_BEHIND", 2)
    gone = await shop.get("/v1/orders/events", headers=as_customer(teller.customer, last_event_id="0-0"))
    wrong = await shop.get("/v1/orders/events", headers=as_customer(teller.customer, last_event_id="0-x"))

    assert (gone.status_code, gone.json()["title"]) == (410, "The event to go on from is too far back")
    assert (wrong.status_code, wrong.json()["errors"][0]["parameter"]) == (422, "header/Last-Event-ID")


async def test_more_streams_than_one_may_have_are_refused(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed, "MOST_OF_ONE", 0)
    answer = await door.http.get("/v1/orders/events", headers=as_customer())

    assert (answer.status_code, answer.json()["title"]) == (429, "Too many streams are open")
    assert int(answer.headers["retry-after"]) > 0


async def test_one_shops_streams_leave_room_for_every_other_shop(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed, "MOST_LISTENERS", 600)
    listening = door.app._app._app.state.gateway.feed
    of_one = [await listening.listen("greedy", f"c{number}") for number in range(500)]
    with pytest.raises(TooManyStreams, match="Your shop may have 500 streams"):
        await listening.listen("greedy", "another")

    # Half of what is left, and more again when somebody has gone.
    of_another = [await listening.listen("modest", f"c{number}") for number in range(84)]
    with pytest.raises(TooManyStreams):
        await listening.listen("modest", "another")
    assert await listening.listen("third", "c1")
    for each in of_one:
        each.close()
    assert await listening.listen("modest", "another")
    assert listening._of_tenant == {"modest": len(of_another) + 1, "third": 1}


async def test_who_comes_together_is_counted_together(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feed, "MOST_OF_ONE", 10)
    listening = door.app._app._app.state.gateway.feed

    found = await asyncio.gather(*(listening.listen("shop", "c7") for _ in range(50)), return_exceptions=True)

    assert sum(isinstance(each, feed.Listener) for each in found) == 10
    assert sum(isinstance(each, TooManyStreams) for each in found) == 40


async def test_while_the_database_is_away_all_who_want_to_listen_are_told_together():
    timeline = Timeline(f"postgresql://x@{NOWHERE}/timeline")
    await timeline.open()

    async def nothing(told: Any) -> None: ...

    listening = feed.Feed(timeline, nothing)
    async with asyncio.timeout(2 * WAIT_SECONDS + 1):
        found = await asyncio.gather(*(listening.listen("shop", f"c{n}") for n in range(50)), return_exceptions=True)

    assert {type(each) for each in found} == {Unavailable}
    await listening.close()
    await timeline.close()


async def test_streams_outlive_a_database_that_is_away(shop: httpx.AsyncClient, teller: Teller, stack: Any):
    order_id = new_order()
    async with opened(shop, "/v1/orders/events", teller.customer) as stream:
        await teller.tell(order_id, "OrderPlaced")
        await stream.until("OrderPlaced")
        async with _away(stack, teller):
            refused = await shop.get(f"/v1/orders/{order_id}", headers=as_customer(teller.customer), timeout=60)
        await teller.tell(order_id, "InvoiceOpened")
        await stream.until("OrderPlaced", "InvoiceOpened")

    assert refused.status_code == 503


@asynccontextmanager
async def _away(stack: Any, teller: Teller) -> AsyncIterator[None]:
    """The database ends all connections and takes none within the block."""
    name = urlsplit(teller.environment["PAVANE_DATABASE_TIMELINE"]).path[1:]
    async with await psycopg.AsyncConnection.connect(stack.addresses.postgres_admin, autocommit=True) as admin:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        ended = await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        assert await ended.fetchall()
        try:
            yield
        finally:
            await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def test_positions_are_read_as_they_are_written():
    for heads in (Heads(16_423, {1: 20, 0: 3}), Heads(7, {4: 0})):
        assert read_positions(written_positions(heads)) == heads
    assert read_positions("0-3.1-20") == Heads(0, {0: 3, 1: 20})


class Swapped:
    """A timeline whose tables others took the place of, once `view` has changed."""

    view = 1

    async def heads(self) -> Heads:
        return Heads(self.view, {0: 8})

    async def told(self, since: Any, most: int) -> list[Any]:
        return []


async def test_when_other_tables_took_the_timelines_place_whoever_listens_is_let_go_and_begins_anew():
    timeline: Any = Swapped()

    async def nothing(told: Any) -> None: ...

    listening = feed.Feed(timeline, nothing)
    before = await listening.listen("shop", "c7")
    timeline.view = 2
    async with asyncio.timeout(SOON):
        assert await before.next() is None
    after, caller = await listening.listen("shop", "c7"), Customer("shop", "c7", "token", None)
    assert after.since == Heads(2, {0: 8})
    with pytest.raises(EventsGone):
        _Told(caller, timeline, after, Heads(1, {0: 8}))
    assert _Told(caller, timeline, after, Heads(2, {0: 8}))
    await listening.close()


async def _listeners(shop: httpx.AsyncClient, count: int) -> bool:
    return f"pavane_gateway_listeners {count}.0" in (await shop.get("/metrics")).text


async def test_to_leave_costs_the_same_however_many_listen(door: Door):
    others = 1_000
    listening = door.app._app._app.state.gateway.feed
    for number in range(others):
        await listening.listen("shop", f"c{number}")
    stays, leaves = await listening.listen("shop", "ada"), await listening.listen("shop", "ada")
    steps = 0

    def step(*_: Any) -> Any:
        nonlocal steps
        steps += 1
        return step

    tracing = sys.gettrace()
    sys.settrace(step)
    try:
        leaves.close()
    finally:
        sys.settrace(tracing)

    assert steps < 100
    assert listening._of_one["shop", "ada"] == 1
    stays.close()
    assert len(listening._of_one) == others


async def test_streams_that_are_taken_up_again_leave_connections_for_all_other_readers(environment: dict[str, str]):
    """Each may have far to read, and costs no more than any other request."""
    url = environment["PAVANE_DATABASE_TIMELINE"]
    timeline = Timeline(url)
    await timeline.open()
    try:
        # All its connections are there before anything waits.
        await asyncio.gather(*(timeline.heads() for _ in range(CONNECTIONS)))
        async with await psycopg.AsyncConnection.connect(url) as slow:
            await slow.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
            catching_up = [
                asyncio.create_task(timeline.told_to("shop", f"c{n}", {0: 0}, None)) for n in range(2 * CONNECTIONS)
            ]
            await eventually(lambda: _waiting_for_locks(url, MOST_CATCHING_UP), SOON, "some read")
            assert await timeline.price("shop", "never-heard-of") is None
            for each in catching_up:
                each.cancel()
            await asyncio.gather(*catching_up, return_exceptions=True)
    finally:
        await timeline.close()


async def _waiting_for_locks(url: str, count: int) -> bool:
    async with await psycopg.AsyncConnection.connect(url) as database:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND application_name = 'pavane-gateway'"
        )
        [found] = await (await database.execute(query)).fetchone() or (0,)
        return bool(found >= count)


async def test_the_heads_of_lanes_are_the_ordinals_of_their_last_facts_however_many_were_told_again(
    teller: Teller,
) -> None:
    order_id, url = new_order(), teller.environment["PAVANE_DATABASE_TIMELINE"]
    lane = 3
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        await database.execute("INSERT INTO lanes VALUES (%s, 4, 1) ON CONFLICT DO NOTHING", (lane,))
        await database.execute(
            """UPDATE lanes SET clock = clock || '{"timeline.retried": 1500}' WHERE partition = %s""", (lane,)
        )
        await teller.tell(order_id, "OrderPlaced", lane=lane)
        cursor = await database.execute("SELECT ordinal FROM entries WHERE order_id = %s", (order_id,))
        [(ordinal,)] = await cursor.fetchall()
    timeline = Timeline(url)
    await timeline.open()
    try:
        assert (await timeline.heads()).positions[lane] == ordinal > 1_500
    finally:
        await timeline.close()
