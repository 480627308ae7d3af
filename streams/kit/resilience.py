"""How a dependency is called: with a bound on everything.

    bulkhead ▶ circuit breaker ▶ tenacity: attempts with random pauses ▶ timeout of one attempt ▶ the call

A call either gives an answer or raises `WorldUnavailable` within a time that its `Policy` bounds. Whatever else it
raises is a fault of the code, and neither asked again nor held against the dependency.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from streams.kit.breaker import Breaker, Mode
from streams.kit.errors import BreakerOpen, BulkheadFull, TimedOut, WorldUnavailable
from streams.kit.logs import logger
from streams.kit.policies import Policy
from streams.kit.telemetry import DependencyTelemetry

T = TypeVar("T")


class State(NamedTuple):
    """What readiness tells of a dependency. `reason`: why its breaker is not closed."""

    breaker: str
    calls: int
    reason: str
    again_in_seconds: float

    @property
    def is_degraded(self) -> bool:
        return self.breaker != Mode.CLOSED.label


class Dependency:
    """One thing that this process depends on. `now` counts seconds and never jumps; `pause` waits for some."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.policy = policy
        self._now = now
        self._pause = pause
        self._places = asyncio.Semaphore(policy.concurrent_calls)
        self._calls = 0
        self._breaker = Breaker(name, policy, now, self._tell)
        self._telemetry = DependencyTelemetry(name, lambda: self._breaker.shown)

    def state(self) -> State:
        """What is known now, without asking; may be called from any thread."""
        breaker = self._breaker
        return State(breaker.shown.label, self._calls, breaker.reason, round(breaker.again_in_seconds, 1))

    async def call(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives. Raises `WorldUnavailable`: what `ask` raised last, `TimedOut`, `BreakerOpen` or
        `BulkheadFull`."""
        begun = self._now()
        outcome = "fault"
        try:
            async with self._place():
                answer = await self._if_closed(ask)
            outcome = "answered"
            return answer
        except WorldUnavailable as error:
            outcome = _OUTCOMES.get(type(error), "unavailable")
            raise
        except asyncio.CancelledError:
            outcome = "called_off"
            raise
        finally:
            self._telemetry.called(outcome, self._now() - begun)

    # -- the layers, from the outside --------------------------------------------------------------------------------

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        wait = self.policy.place_wait_seconds
        try:
            async with asyncio.timeout(wait):
                await self._places.acquire()
        except TimeoutError:
            raise BulkheadFull(self.name, self._calls, wait) from None
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._places.release()

    async def _if_closed(self, ask: Callable[[], Awaitable[T]]) -> T:
        ticket = self._breaker.admit()
        try:
            answer = await self._again_and_again(ask)
        except WorldUnavailable as error:
            self._breaker.failed(ticket, str(error))
            raise
        except BaseException:
            self._breaker.left(ticket)
            raise
        self._breaker.answered(ticket)
        return answer

    async def _again_and_again(self, ask: Callable[[], Awaitable[T]]) -> T:
        policy = self.policy
        jitter = wait_random_exponential(multiplier=policy.first_pause_seconds, max=policy.longest_pause_seconds)

        def is_too_long_a_wait(state: RetryCallState) -> bool:
            return _asked_to_wait(state) > policy.longest_pause_seconds

        # One for each call: tenacity keeps the state of a call in it.
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(WorldUnavailable),
            stop=lambda state: stop_after_attempt(policy.attempts)(state) or is_too_long_a_wait(state),
            wait=lambda state: max(jitter(state), _asked_to_wait(state)),
            sleep=self._pause,
            reraise=True,
        )
        return await retrying(self._attempt, ask)

    async def _attempt(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self.policy.timeout_seconds):
                return await ask()
        except TimeoutError as error:
            raise TimedOut(self.name, self.policy.timeout_seconds) from error

    # -- what is told ------------------------------------------------------------------------------------------------

    def _tell(self, before: Mode) -> None:
        """A line when it begins to be left alone, and one when it is back: none for each try between."""
        breaker = self._breaker
        told: dict[str, Any] = {"dependency": self.name}
        if before is Mode.CLOSED:
            again_in = round(breaker.again_in_seconds, 1)
            told |= {"reason": breaker.reason, "again_in_seconds": again_in, "meanwhile": self.policy.meanwhile}
            logger().warning("breaker_open", **told)
        elif breaker.mode is Mode.CLOSED:
            logger().info("breaker_closed", **told)


_OUTCOMES = {BreakerOpen: "breaker_open", BulkheadFull: "bulkhead_full", TimedOut: "timed_out"}


def _asked_to_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after_seconds if isinstance(error, WorldUnavailable) else 0.0
