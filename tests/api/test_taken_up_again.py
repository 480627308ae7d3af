"""The stream of all of one's orders on a timeline in memory: what its client knows, whenever it breaks off."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from api import streams
from api.customers import Customer
from api.errors import Unavailable
from api.feed import Feed
from api.routes.live import events_of_all
from api.timeline import MOST_CATCHING_UP, Heads, Timeline, Told
from tests.api.conftest import NOWHERE
from tests.waiting import eventually

ADA = Customer("shop", "ada", "ada", None)


class OneLane:
    """Stands in for the timeline: one lane, whose facts are told here."""

    def __init__(self) -> None:
        self.facts: list[Told] = []
        self.reading_up = asyncio.Event()
        self.held = asyncio.Event()
        self.held.set()

    def tell(self, customer: str = "ada", count: int = 1) -> None:
        for ordinal in range(len(self.facts) + 1, len(self.facts) + count + 1):
            order_id, data = f"o{ordinal}", f'{{"ordinal":{ordinal}}}'
            self.facts.append(Told(0, ordinal, f"orders/0/{ordinal}", "OrderPlaced", order_id, "shop", customer, data))

    async def heads(self) -> Heads:
        return Heads(1, {0: len(self.facts)})

    async def told(self, since: Mapping[int, int], most: int) -> list[Told]:
        return self.facts[since[0] :][:most]

    async def told_to(self, tenant: str, customer: str, since: Mapping[int, int], window: int | None) -> list[Told]:
        self.reading_up.set()
        await self.held.wait()
        until = None if window is None else since[0] + window
        return [told for told in self.facts[since[0] : until] if told.customer == customer]


class Client:
    """Reads a stream as an `EventSource` does: an id counts, whether or not an event came with it."""

    def __init__(self, turns: int = 0) -> None:
        """`turns`: of the loop, that it takes to read an event."""
        self.turns = turns
        self.blocks: list[bytes] = []
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        self.blocks += [block for block in message.get("body", b"").split(b"\n\n") if block]

    @property
    def last(self) -> str:
        ids = [block.split(b"\n")[0][4:].decode() for block in self.blocks if block.startswith(b"id: ")]
        return ids[-1] if ids else ""

    @property
    def events(self) -> int:
        return sum(b"data: " in block for block in self.blocks)


class Gateway:
    def __init__(self) -> None:
        self.timeline: Any = OneLane()
        self.feed = Feed(self.timeline, self._nothing)

    async def _nothing(self, told: list[Told]) -> None: ...

    @asynccontextmanager
    async def opened(self, last: str | None = None, client: Client | None = None) -> AsyncIterator[Client]:
        client = client or Client()
        stream = await events_of_all(ADA, SimpleNamespace(feed=self.feed, timeline=self.timeline), last)  # type: ignore[arg-type]
        reading = asyncio.create_task(stream({"type": "http"}, client.receive, client.send))
        try:
            yield client
        finally:
            client.left.set()
            await reading


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    yield gateway
    await gateway.feed.close()


async def test_who_left_before_the_first_event_comes_back_and_misses_nothing(gateway: Gateway):
    gateway.timeline.tell()
    async with gateway.opened() as before:
        await eventually(lambda: before.last)
    gateway.timeline.tell()

    async with gateway.opened(before.last) as again:
        await eventually(lambda: again.events == 1)

    assert before.events == 0


async def test_who_hears_nothing_for_long_does_not_fall_behind_by_what_others_are_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    async with gateway.opened() as client:
        gateway.timeline.tell("bob", 500)
        await eventually(lambda: client.last == "1.0-500")

    assert client.events == 0


async def test_where_a_listener_is_is_not_said_while_something_waits_for_it(gateway: Gateway):
    with await gateway.feed.listen("shop", "ada") as listener:
        gateway.timeline.tell()
        await eventually(lambda: listener.told_up_to() is None)
        await listener.next()

        await eventually(lambda: listener.told_up_to() == Heads(1, {0: 1}))


async def test_what_is_read_up_is_not_read_again_when_that_breaks_off(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("api.routes.live.WINDOW", 10)
    gateway.timeline.tell("bob", 100)

    async with gateway.opened("1.0-50") as client:
        await eventually(lambda: client.last == "1.0-100")

    assert [block.decode() for block in client.blocks[1:]] == [f"id: 1.0-{n}" for n in range(50, 101, 10)]


async def test_nothing_is_read_up_for_a_client_that_has_gone(gateway: Gateway):
    gateway.timeline.tell("bob", 100)
    gateway.timeline.held.clear()

    async with asyncio.timeout(10), gateway.opened("1.0-0"):
        await gateway.timeline.reading_up.wait()

    assert gateway.feed._count == 0


class Asked(Timeline):
    """A timeline that answers once it is let."""

    def __init__(self) -> None:
        super().__init__(f"postgresql://x@{NOWHERE}/timeline")
        self.asked: list[str] = []
        self.let = asyncio.Event()

    async def _told(self, since: Mapping[int, int], window: int = 0, **some: Any) -> list[Told]:
        self.asked.append(some["customer"])
        await self.let.wait()
        return []

    def catch_up(self, customer: str) -> "asyncio.Task[list[Told]]":
        return asyncio.create_task(self.told_to("shop", customer, {0: 0}, None))


async def test_one_customers_streams_keep_no_others_from_being_taken_up_again():
    timeline = Asked()
    catching_up = [timeline.catch_up(who) for who in ("ada", "ada", "ada", "ada", "bob")]

    await eventually(lambda: timeline.asked == ["ada", "bob"])
    timeline.let.set()

    assert await asyncio.gather(*catching_up) == [[]] * 5


async def test_a_turn_to_catch_up_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.timeline.CATCH_UP_SECONDS", 0.05)
    timeline = Asked()
    first = [timeline.catch_up(f"c{number}") for number in range(MOST_CATCHING_UP)]

    with pytest.raises(Unavailable):
        await timeline.catch_up("late")
    timeline.let.set()

    assert await asyncio.gather(*first) == [[]] * MOST_CATCHING_UP


@pytest.mark.parametrize("turns", [0, 1])
async def test_who_reads_at_once_hears_all_of_a_long_round(gateway: Gateway, turns: int):
    async with gateway.opened(client=Client(turns)) as client:
        await eventually(lambda: client.last)
        gateway.timeline.tell("ada", 900)

        await eventually(lambda: client.events == 900, what="900 events")


async def test_who_takes_nothing_is_let_go_and_holds_up_nobody(gateway: Gateway):
    with await gateway.feed.listen("shop", "ada") as slow, await gateway.feed.listen("shop", "bob") as other:
        gateway.timeline.tell("ada", 900)
        gateway.timeline.tell("bob")

        heard = await other.next()

    assert slow.overrun
    assert heard is not None and heard.told.ordinal == 901
