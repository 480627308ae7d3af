"""What was committed is said in order until the log has acknowledged it, whatever goes wrong on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from streams.kit import outbox
from streams.kit.log import ToSay
from streams.kit.outbox import MOST_BYTES, Outbox
from tests.kit.planting import Bug, planted
from tests.waiting import eventually


class Appends:
    """A log that keeps what is appended; `reach` says how much of the next appends arrives before an error."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.requests: list[list[bytes]] = []
        self.reach: list[int | None] = []
        self.open = asyncio.Event()
        self.open.set()

    async def append(self, partition: int, facts: Sequence[ToSay]) -> None:
        await self.open.wait()
        self.requests.append([fact.value for fact in facts])
        reach = self.reach.pop(0) if self.reach else None
        self.arrived += [fact.value for fact in facts[:reach]]
        if reach is not None:
            raise OSError("the connection was lost")


def row(number: int, *values: bytes) -> tuple[int, list[ToSay]]:
    return number, [ToSay("me", 0, b"k", value, ()) for value in values]


@pytest.fixture
def log() -> Appends:
    return Appends()


@pytest.fixture
async def new_outbox(log: Appends, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Outbox]]:
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.0)
    made: list[Outbox] = []

    def new(acknowledged: int = 0, on_acknowledged: Callable[[], Any] = lambda: None) -> Outbox:
        made.append(Outbox(3, log, acknowledged, on_acknowledged))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for each in made:
        each.drop()


async def test_rows_are_said_in_the_order_of_their_commits(log: Appends, new_outbox: Callable[..., Outbox]) -> None:
    box = new_outbox(4)
    box.add([row(5, b"a", b"b")])
    box.add([row(6, b"c")])
    assert await box.drained(5)
    assert (log.arrived, box.acknowledged, box.unacknowledged_facts) == ([b"a", b"b", b"c"], 6, 0)


@pytest.mark.parametrize("reach", range(5))
async def test_after_an_error_everything_not_acknowledged_is_said_again_in_order(
    log: Appends, new_outbox: Callable[..., Outbox], reach: int
) -> None:
    log.reach = [reach, 0, reach]
    box = new_outbox()
    box.add([row(1, b"a", b"b"), row(2, b"c", b"d")])
    assert await box.drained(5)
    assert log.requests == [[b"a", b"b", b"c", b"d"]] * 4
    assert list(dict.fromkeys(log.arrived)) == [b"a", b"b", b"c", b"d"]
    assert box.acknowledged == 2


async def test_nothing_counts_as_acknowledged_while_its_append_is_under_way(
    log: Appends, new_outbox: Callable[..., Outbox]
) -> None:
    log.open.clear()
    told: list[int] = []
    box: Outbox = new_outbox(0, lambda: told.append(box.acknowledged))
    box.add([row(1, b"a"), row(2, b"b", b"c")])
    assert not await box.drained(0.01)
    assert (box.acknowledged, box.unacknowledged_facts, told) == (0, 3, [])
    log.open.set()
    assert await box.drained(5)
    assert (box.acknowledged, box.unacknowledged_facts, told) == (2, 0, [2])


async def test_what_comes_while_an_append_is_under_way_is_said_together_afterwards(
    log: Appends, new_outbox: Callable[..., Outbox]
) -> None:
    log.open.clear()
    box = new_outbox()
    box.add([row(1, b"a")])
    await asyncio.sleep(0)
    box.add([row(2, b"b")])
    box.add([row(3, b"c")])
    log.open.set()
    assert await box.drained(5)
    assert log.requests == [[b"a"], [b"b", b"c"]]


async def test_one_append_takes_no_more_rows_than_fit_but_always_one(
    log: Appends, new_outbox: Callable[..., Outbox]
) -> None:
    half = b"x" * (MOST_BYTES // 2)
    box = new_outbox()
    box.add([row(1, half, half), row(2, half), row(3, b"y")])
    assert await box.drained(5)
    assert [len(request) for request in log.requests] == [2, 2]


async def test_a_dropped_outbox_says_nothing_more(log: Appends, new_outbox: Callable[..., Outbox]) -> None:
    log.open.clear()
    box = new_outbox()
    box.add([row(1, b"a")])
    await asyncio.sleep(0)
    box.drop()
    log.open.set()
    assert not await box.drained(0.01)
    assert (log.requests, box.acknowledged) == ([], 0)


async def test_an_outbox_without_rows_is_drained(new_outbox: Callable[..., Outbox]) -> None:
    box = new_outbox()
    box.add([])
    assert await box.drained(5)


async def test_it_goes_on_trying_for_as_long_as_the_log_is_away(
    log: Appends, new_outbox: Callable[..., Outbox]
) -> None:
    log.reach = [0] * 50
    box = new_outbox()
    box.add([row(1, b"a")])
    await eventually(lambda: box.acknowledged == 1)
    assert (len(log.requests), log.arrived) == (51, [b"a"])


# -- bugs planted in the outbox ----------------------------------------------------------------------------------------


@planted(
    Bug(
        "a failed append is not repeated",
        Outbox,
        "_say_all",
        "await asyncio.sleep(PAUSE_SECONDS)\n            continue\n",
        "pass\n",
        test_it_goes_on_trying_for_as_long_as_the_log_is_away,
    ),
    Bug(
        "a row counts as said before the log has it",
        Outbox,
        "_say_all",
        "rows = self._oldest()",
        "rows = self._oldest(); self.acknowledged = rows[-1][0] if rows else self.acknowledged",
        test_nothing_counts_as_acknowledged_while_its_append_is_under_way,
    ),
    Bug(
        "the newest row is said first",
        Outbox,
        "_oldest",
        "for row in self._rows:",
        "for row in reversed(self._rows):",
        test_what_comes_while_an_append_is_under_way_is_said_together_afterwards,
    ),
)
async def test_a_bug_planted_in_the_outbox_is_found(
    bug: Bug, log: Appends, new_outbox: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug.plant(monkeypatch)
    await bug.is_found(log=log, new_outbox=new_outbox)
