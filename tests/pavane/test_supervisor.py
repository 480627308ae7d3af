"""What has died, hangs or gets nowhere is told of, and started again; what is never silent is giving up."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from infra.processes import Child
from pavane.http import Connection
from pavane.instance import Instance
from pavane.supervisor import Bounds, Look, NeverRan, Pauses, Supervisor, look_at_it
from tests.waiting import eventually

PRETENDING = Path(__file__).with_name("pretending.py")
QUICK = Bounds(patience_seconds=0.3, first_pause_seconds=0.01, longest_pause_seconds=0.1)


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pavane.supervisor.BETWEEN_LOOKS_SECONDS", 0.05)
    monkeypatch.setattr("pavane.supervisor.BETWEEN_DEATH_WATCHES_SECONDS", 0.02)


class Pretended(Instance):
    """An instance whose process is how it was told to be."""

    def __init__(self, how: str, log_file: Path) -> None:
        super().__init__("nobody", 1, dict(os.environ), log_file.with_suffix(".unused"))
        self.child.kill()
        self.child = Child(self.label, [sys.executable, str(PRETENDING), how], dict(os.environ), log_file)


class Kept:
    """A process that is kept running, all that were started for it, and what was said about it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[Instance] = []
        self.said: list[str] = []
        self.keeping: asyncio.Task[None] | None = None

    @property
    def news(self) -> str:
        return "\n".join(self.said)

    def keep(self, how: str = "well", then: str = "well", bounds: Bounds = QUICK) -> None:
        """`how` it is at first, and `then`, after every new start."""
        supervisor = Supervisor(self.said.append, bounds)
        first = self.start(how)
        self.keeping = asyncio.create_task(supervisor.keep(first, lambda ended: self.start(then)))

    async def come_up(self) -> Instance:
        """The first process, once it has answered."""
        await eventually(lambda: self.said, what="it answers")
        return self.started[0]

    async def until_it_runs_again(self) -> None:
        await eventually(lambda: "runs again" in self.news, what=f"started again; said: {self.news}")
        assert self.started[-1].is_running
        assert not self.started[0].is_running

    def start(self, how: str) -> Instance:
        instance = Pretended(how, self._folder / f"{len(self.started)}.log")
        self.started.append(instance)
        return instance

    async def end(self) -> None:
        if self.keeping is not None:
            self.keeping.cancel()
            await asyncio.gather(self.keeping, return_exceptions=True)
        for instance in self.started:
            instance.child.kill()


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    await kept.end()


def test_pauses_grow_twice_as_long_up_to_a_bound() -> None:
    pauses = Pauses(Bounds(most_deaths=100))
    assert [pauses.after_death(at=number, lived_seconds=1) for number in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_pauses_stay_bounded_however_often_it_has_died() -> None:
    pauses = Pauses(Bounds(most_deaths=100_000))
    assert {pauses.after_death(at=12 * number, lived_seconds=12) for number in range(2_000)} == {1, 2, 4, 8, 16, 30}


def test_a_process_that_lived_for_long_is_started_again_at_once() -> None:
    pauses = Pauses(Bounds())
    assert [pauses.after_death(at, 1) for at in (0, 10, 20)] == [1, 2, 4]
    assert pauses.after_death(at=90, lived_seconds=60) == 1


def test_five_deaths_in_a_minute_make_it_slow_until_it_has_lived_for_long() -> None:
    pauses = Pauses(Bounds())
    assert [pauses.after_death(at, 1) for at in (0, 15, 30, 45)] == [1, 2, 4, 8]
    assert not pauses.is_slow
    assert pauses.after_death(at=60, lived_seconds=1) == 30
    assert pauses.is_slow
    assert pauses.after_death(at=200, lived_seconds=1) == 30
    assert (pauses.after_death(at=300, lived_seconds=60), pauses.is_slow) == (1, False)


def test_five_deaths_in_more_than_a_minute_are_not_hopeless() -> None:
    pauses = Pauses(Bounds())
    assert [pauses.after_death(at, 1) for at in (0, 16, 31, 46, 61)] == [1, 2, 4, 8, 16]
    assert not pauses.is_slow


async def test_a_process_that_died_is_told_with_its_last_lines_and_started_again(kept: Kept) -> None:
    kept.keep("mortal")
    await kept.until_it_runs_again()
    assert kept.started[0].child.poll() == 3
    assert "nobody-1 ended with exit code 3" in kept.news
    assert "    I am mortal" in kept.news
    assert kept.news.count("I am mortal") == 1
    assert f"with pid {kept.started[1].pid}, at {kept.started[1].url}" in kept.news


@pytest.mark.parametrize(("how", "told"), [("blocked", "hangs"), ("idle", "has made no progress for 1000 s")])
async def test_a_process_that_hangs_or_gets_nowhere_is_killed_and_started_again(
    kept: Kept, how: str, told: str
) -> None:
    kept.keep()
    first = await kept.come_up()
    connection = Connection(first.url)
    assert (await connection.ask("GET", f"/be/{how}")).status == 200
    connection.close()
    await kept.until_it_runs_again()
    assert first.child.poll() == -signal.SIGKILL
    assert re.search(rf"nobody-1, pid {first.pid}, {told}.*\. It is killed", kept.news)


def test_one_that_got_on_before_it_was_idle_has_what_was_borne_of_it_forgiven() -> None:
    supervisor = Supervisor(print, Bounds(longest_idle_seconds=200.0))
    assert supervisor._idle_next(60, was_idle=True, lived_seconds=76) == 120
    assert supervisor._idle_next(120, was_idle=True, lived_seconds=136) == 200
    assert supervisor._idle_next(120, was_idle=True, lived_seconds=7 * 86_400) == 60
    assert supervisor._idle_next(120, was_idle=False, lived_seconds=5) == 60


async def test_one_that_was_killed_for_being_idle_may_be_idle_twice_as_long_the_next_time(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int, set[float]] = {}

    async def look(instance: Instance, idle_seconds: float) -> Look:
        asked.setdefault(instance.pid, set()).add(idle_seconds)
        return await look_at_it(instance, idle_seconds)

    monkeypatch.setattr("pavane.supervisor.look_at_it", look)
    kept.keep()
    first = await kept.come_up()
    connection = Connection(first.url)
    assert (await connection.ask("GET", "/be/idle")).status == 200
    connection.close()
    await kept.until_it_runs_again()
    [before], [after] = asked[first.pid], asked[kept.started[-1].pid]
    assert after == 2 * before


async def test_a_process_that_stands_still_is_killed_and_started_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pavane.supervisor.ANSWER_SECONDS", 0.5)
    kept.keep()
    first = await kept.come_up()
    first.freeze()
    await eventually(lambda: not first.is_running or psutil.Process(first.pid).status() == psutil.STATUS_STOPPED)
    await kept.until_it_runs_again()
    assert first.child.poll() == -signal.SIGKILL
    assert f"pid {first.pid}, does not answer" in kept.news


async def test_a_process_that_is_live_and_cannot_say_soon_whether_it_is_ready_is_left_alone(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pavane.supervisor.ANSWER_SECONDS", 0.2)
    looks: list[Look] = []

    async def look(instance: Instance, idle_seconds: float) -> Look:
        looks.append(await look_at_it(instance, idle_seconds))
        return looks[-1]

    monkeypatch.setattr("pavane.supervisor.look_at_it", look)
    kept.keep()
    first = await kept.come_up()
    connection = Connection(first.url)
    assert (await connection.ask("GET", "/be/unsure")).status == 200
    connection.close()
    asked = len(looks)
    await eventually(lambda: len(looks) >= asked + 6, what="it was looked at for longer than one that hangs is borne")
    assert looks[-1] == Look(True)
    assert (first.is_running, len(kept.started)) == (True, 1), kept.news


async def test_a_passing_trouble_is_borne(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def look(instance: Instance, idle_seconds: float) -> Look:
        nonlocal looks
        looks += 1
        return Look(True, "hangs" if looks in (2, 4, 6) else None)

    monkeypatch.setattr("pavane.supervisor.look_at_it", look)
    kept.keep(bounds=QUICK._replace(patience_seconds=5.0))
    await eventually(lambda: looks > 8)
    assert (len(kept.started), len(kept.said)) == (1, 1), kept.said
    assert kept.started[0].is_running


async def test_giving_up_is_told_and_it_is_tried_on_all_the_same(kept: Kept) -> None:
    kept.keep("mortal", then="mortal")
    await eventually(lambda: len(kept.started) >= 7, what="tried on after five deaths")
    assert kept.news.count("nobody-1 has died 5 times within 60 s: it needs you.") == 1
    assert "It is tried every 0.1 s from now on" in kept.news
    assert kept.news.count("ended with exit code 3") >= 6, "every end is told"


async def test_a_start_that_fails_is_told_and_tried_again(kept: Kept) -> None:
    first, failures = kept.start("mortal"), [OSError(28, "No space left on device")]

    def again(ended: Instance) -> Instance:
        if failures:
            raise failures.pop()
        return kept.start("well")

    kept.keeping = asyncio.create_task(Supervisor(kept.said.append, QUICK).keep(first, again))
    await kept.until_it_runs_again()
    assert "nobody-1 could not be started: [Errno 28] No space left on device." in kept.news


async def test_what_ends_before_it_ever_answered_is_not_started_again(kept: Kept, tmp_path: Path) -> None:
    nobody = Instance("nobody", 1, dict(os.environ), tmp_path / "nobody.log")
    with pytest.raises(NeverRan, match="there is no service 'nobody'"):
        await asyncio.wait_for(Supervisor(kept.said.append, QUICK).keep(nobody, lambda ended: ended), 30)
    assert kept.said == []


async def test_a_process_that_was_asked_to_end_is_left_in_peace(kept: Kept) -> None:
    kept.keep()
    first = await kept.come_up()
    await first.stop()
    assert kept.keeping is not None
    await asyncio.wait_for(kept.keeping, 10)
    [told] = kept.said
    assert (len(kept.started), told) == (1, f"nobody-1 runs, with pid {first.pid}, at {first.url}.")
