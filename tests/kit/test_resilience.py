"""What a caller of a dependency sees: answers, and errors that say that asking again is safe, within bounds."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from streams.kit.errors import BreakerOpen, BulkheadFull, PavaneError, Then, TimedOut, WorldUnavailable
from streams.kit.policies import WORLDS, Policy, world_of
from streams.kit.resilience import Dependency

POLICY = Policy(
    attempts=3,
    first_pause_seconds=0.1,
    longest_pause_seconds=0.3,
    failures_to_open=2,
    open_seconds=10.0,
    place_wait_seconds=0.0,
    concurrent_calls=2,
)


class Clock:
    """Time that passes only in pauses and when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds


class Script:
    """A dependency that does what it is told, one step a question, and then answers."""

    def __init__(self, *steps: BaseException) -> None:
        self.steps = list(steps)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.steps:
            raise self.steps.pop(0)
        return "answer"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dependency(clock: Clock, new_name: str) -> Dependency:
    return Dependency(new_name, POLICY, clock.now, clock.pause)


def away(times: int = 1, retry_after_seconds: float = 0.0) -> list[WorldUnavailable]:
    return [WorldUnavailable("no route to host", retry_after_seconds) for _ in range(times)]


def calls(dependency: Dependency, outcome: str) -> float:
    labels = {"dependency": dependency.name, "outcome": outcome}
    return REGISTRY.get_sample_value("pavane_dependency_calls_total", labels) or 0.0


def breaker_gauge(dependency: Dependency) -> float | None:
    return REGISTRY.get_sample_value("pavane_breaker_state", {"dependency": dependency.name})


async def fail_once(dependency: Dependency) -> None:
    with pytest.raises(WorldUnavailable):
        await dependency.call(Script(*away(POLICY.attempts)))


async def open_breaker(dependency: Dependency) -> None:
    for _ in range(POLICY.failures_to_open):
        await fail_once(dependency)


# -- attempts --------------------------------------------------------------------------------------------------------


async def test_a_call_that_fails_is_asked_again_after_growing_random_pauses(clock: Clock, new_name: str) -> None:
    dependency = Dependency(new_name, replace(POLICY, attempts=6), clock.now, clock.pause)
    script = Script(*away(5))

    assert await dependency.call(script) == "answer"

    assert script.asked == 6
    bounds = [0.1, 0.2, 0.3, 0.3, 0.3]
    assert all(0 <= pause <= bound for pause, bound in zip(clock.pauses, bounds, strict=True))
    assert len(set(clock.pauses)) == 5
    assert calls(dependency, "answered") == 1


async def test_after_the_last_attempt_the_caller_is_told_the_last_error(dependency: Dependency) -> None:
    script = Script(*away(2), WorldUnavailable("connection reset"))
    with pytest.raises(WorldUnavailable, match="connection reset"):
        await dependency.call(script)
    assert script.asked == 3
    assert calls(dependency, "unavailable") == 1


async def test_who_says_when_to_come_again_is_not_asked_before(dependency: Dependency, clock: Clock) -> None:
    await dependency.call(Script(*away(1, retry_after_seconds=0.25)))
    assert clock.pauses == [0.25]


async def test_who_wants_more_time_than_a_call_has_is_not_asked_again(dependency: Dependency, clock: Clock) -> None:
    script = Script(*away(1, retry_after_seconds=30.0))
    with pytest.raises(WorldUnavailable) as told:
        await dependency.call(script)
    assert (script.asked, clock.pauses, told.value.retry_after_seconds) == (1, [], 30.0)


async def test_an_attempt_that_takes_too_long_is_ended(clock: Clock, new_name: str) -> None:
    dependency = Dependency(new_name, replace(POLICY, timeout_seconds=0.0, attempts=2), clock.now, clock.pause)
    ended = 0

    async def never() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended += 1
            raise

    with pytest.raises(TimedOut, match=f"{new_name}: no answer within 0 s; what was asked may have been done"):
        await dependency.call(never)
    assert ended == 2
    assert calls(dependency, "timed_out") == 1


async def test_a_fault_of_the_code_is_neither_repeated_nor_held_against_the_dependency(dependency: Dependency) -> None:
    for _ in range(POLICY.failures_to_open + 1):
        script = Script(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await dependency.call(script)
        assert script.asked == 1
    assert not dependency.state().is_degraded
    assert calls(dependency, "fault") == POLICY.failures_to_open + 1


# -- the breaker -----------------------------------------------------------------------------------------------------


async def test_an_open_breaker_is_told_and_the_dependency_left_alone(dependency: Dependency, clock: Clock) -> None:
    await open_breaker(dependency)
    clock.seconds += 4.0
    script = Script()

    with pytest.raises(BreakerOpen) as told:
        await dependency.call(script)

    assert script.asked == 0
    assert str(told.value) == (
        f"{dependency.name}: not asked, its circuit breaker is open since 4.0 s, after 2 failed calls in a row "
        f"(the last: no route to host); it is tried again in 6.0 s"
    )
    assert told.value.retry_after_seconds == pytest.approx(6.0)
    assert dependency.state() == ("open", 0, "no route to host", 6.0)
    assert dependency.state().is_degraded
    assert breaker_gauge(dependency) == 2
    assert calls(dependency, "breaker_open") == 1


async def test_a_breaker_closes_when_the_dependency_is_back(dependency: Dependency, clock: Clock) -> None:
    await open_breaker(dependency)
    clock.seconds += POLICY.open_seconds

    assert await dependency.call(Script()) == "answer"

    assert dependency.state() == ("closed", 0, "", 0.0)
    assert breaker_gauge(dependency) == 0


async def test_an_open_breaker_that_nobody_calls_any_more_is_shown_half_open(
    dependency: Dependency, clock: Clock
) -> None:
    await open_breaker(dependency)
    clock.seconds += POLICY.open_seconds
    assert dependency.state() == ("half-open", 0, "no route to host", 0.0)
    assert breaker_gauge(dependency) == 1


async def test_while_one_call_tries_whether_it_is_back_others_are_not_let_in(
    dependency: Dependency, clock: Clock
) -> None:
    await open_breaker(dependency)
    clock.seconds += POLICY.open_seconds

    async def ask_meanwhile() -> str:
        assert dependency.state().breaker == "half-open"
        assert breaker_gauge(dependency) == 1
        with pytest.raises(BreakerOpen):
            await dependency.call(Script())
        return "probed"

    assert await dependency.call(ask_meanwhile) == "probed"
    assert not dependency.state().is_degraded


@pytest.mark.parametrize("fault", [ZeroDivisionError(), asyncio.CancelledError()])
async def test_a_try_that_tells_nothing_makes_room_for_another(
    dependency: Dependency, clock: Clock, fault: BaseException
) -> None:
    await open_breaker(dependency)
    clock.seconds += POLICY.open_seconds
    with pytest.raises(type(fault)):
        await dependency.call(Script(fault))
    assert dependency.state().breaker == "half-open"
    assert await dependency.call(Script()) == "answer"


async def test_an_outage_is_two_lines_in_the_log_however_often_it_is_tried(
    dependency: Dependency, clock: Clock
) -> None:
    with capture_logs() as lines:
        await open_breaker(dependency)
        for _ in range(5):
            clock.seconds += POLICY.open_seconds
            await fail_once(dependency)
            with pytest.raises(BreakerOpen):
                await dependency.call(Script())
        clock.seconds += POLICY.open_seconds
        await dependency.call(Script())
    assert [line["event"] for line in lines] == ["breaker_open", "breaker_closed"]
    assert lines[0]["meanwhile"] == POLICY.meanwhile


# -- the bulkhead ----------------------------------------------------------------------------------------------------


class Hanging:
    """Calls under way until they are let go."""

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency
        self._go = asyncio.Event()
        self.tasks: list[asyncio.Task[Any]] = []

    async def add(self) -> None:
        began = asyncio.Event()

        async def hang() -> None:
            began.set()
            await self._go.wait()

        self.tasks.append(asyncio.create_task(self._dependency.call(hang)))
        await began.wait()

    async def end(self) -> None:
        self._go.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_no_more_calls_than_allowed_are_under_way(dependency: Dependency) -> None:
    hanging = Hanging(dependency)
    await hanging.add()
    await hanging.add()
    assert dependency.state().calls == 2
    script = Script()

    with pytest.raises(BulkheadFull, match="2 calls are under way, as many as are allowed at once"):
        await dependency.call(script)

    assert script.asked == 0
    assert calls(dependency, "bulkhead_full") == 1
    assert not dependency.state().is_degraded
    await hanging.end()
    assert await dependency.call(script) == "answer"
    assert dependency.state().calls == 0


async def test_a_call_waits_for_a_place(clock: Clock, new_name: str) -> None:
    dependency = Dependency(new_name, replace(POLICY, concurrent_calls=1, place_wait_seconds=60.0), clock.now)
    hanging = Hanging(dependency)
    await hanging.add()
    waiting = asyncio.create_task(dependency.call(Script()))
    await hanging.end()
    assert await waiting == "answer"


async def test_a_call_called_off_gives_its_place_back(dependency: Dependency) -> None:
    hanging = Hanging(dependency)
    await hanging.add()
    await hanging.add()
    hanging.tasks[0].cancel()
    await asyncio.wait(hanging.tasks[:1])
    assert await dependency.call(Script()) == "answer"
    assert calls(dependency, "called_off") == 1
    await hanging.end()


# -- policies and errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [BreakerOpen("x", 1, 1, "y", 1), BulkheadFull("x", 1, 1), TimedOut("x", 1)])
def test_whatever_keeps_a_call_from_its_answer_may_be_asked_again(error: PavaneError) -> None:
    assert isinstance(error, WorldUnavailable)
    assert error.then is Then.LATER


@pytest.mark.parametrize("service", [*WORLDS, "a-new-one"])
def test_every_world_has_a_name_and_bounds(service: str) -> None:
    name, policy = world_of(service)
    assert name
    assert policy.attempts * (policy.timeout_seconds + policy.longest_pause_seconds) + policy.place_wait_seconds < 30
