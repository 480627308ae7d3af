"""A circuit breaker: a dependency that fails again and again is left alone for a while (Nygard, Release It!, 2007).

    closed ──failures in a row──▶ open ──open_seconds──▶ half-open ──as many answered as probes──▶ closed
                                   ▲                         │
                                   └────────one failed───────┘

No clock and no I/O in here: `now` is given, and callers say how their calls ended.
"""

from collections.abc import Callable
from enum import IntEnum

from streams.kit.errors import BreakerOpen
from streams.kit.policies import Policy

WHILE_PROBED_SECONDS = 1.0
"""When to come again while others try whether the dependency is back."""


class Mode(IntEnum):
    """The numbers are those of the metric `pavane_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")


class Breaker:
    """The breaker of one dependency. `changed` is called after each change of `mode`, with the mode before.

    Each call takes a ticket from `admit` and gives it back by exactly one of `answered`, `failed`, `left`. A ticket
    from before the last change of mode says nothing any more: a call that began before the breaker opened neither
    closes it nor opens it again.
    """

    def __init__(
        self, name: str, policy: Policy, now: Callable[[], float], changed: Callable[[Mode], None] = lambda before: None
    ) -> None:
        self.mode = Mode.CLOSED
        self.reason = ""
        self._name = name
        self._policy = policy
        self._now = now
        self._changed = changed
        self._ticket = 0
        self._failures = 0
        self._opened_at = 0.0
        self._tried_at = 0.0
        self._probing = 0
        self._answered = 0

    @property
    def shown(self) -> Mode:
        """`mode`, but half-open once the next call would be let in, whether or not one comes."""
        return Mode.HALF_OPEN if self.mode is Mode.OPEN and self.again_in_seconds == 0.0 else self.mode

    @property
    def again_in_seconds(self) -> float:
        """How long nobody is let in; 0 when calls are."""
        if self.mode is Mode.OPEN:
            return max(0.0, self._tried_at + self._policy.open_seconds - self._now())
        return 0.0

    def admit(self) -> int:
        """A ticket for one call. Raises `BreakerOpen`."""
        if self.mode is Mode.OPEN and self.again_in_seconds == 0.0:
            self._turn(Mode.HALF_OPEN)
        if self.mode is Mode.OPEN:
            raise self._refusal(self.again_in_seconds)
        if self.mode is Mode.HALF_OPEN:
            if self._probing + self._answered >= self._policy.probes:
                raise self._refusal(WHILE_PROBED_SECONDS)
            self._probing += 1
        return self._ticket

    def answered(self, ticket: int) -> None:
        """The dependency answered, whatever it said."""
        if ticket != self._ticket:
            return
        self._failures = 0
        if self.mode is Mode.HALF_OPEN:
            self._probing -= 1
            self._answered += 1
            if self._answered == self._policy.probes:
                self._turn(Mode.CLOSED)

    def failed(self, ticket: int, reason: str) -> None:
        """The dependency did not answer."""
        if ticket != self._ticket:
            return
        self._failures += 1
        self.reason = reason
        if self.mode is Mode.HALF_OPEN:
            self._turn(Mode.OPEN)
        elif self._failures >= self._policy.failures_to_open:
            self._opened_at = self._now()
            self._turn(Mode.OPEN)

    def left(self, ticket: int) -> None:
        """The call was called off, or failed by a fault of its own: it says nothing about the dependency."""
        if ticket == self._ticket and self.mode is Mode.HALF_OPEN:
            self._probing -= 1

    def _turn(self, mode: Mode) -> None:
        before, self.mode = self.mode, mode
        self._ticket += 1
        self._probing = self._answered = 0
        if mode is Mode.OPEN:
            self._tried_at = self._now()
        elif mode is Mode.CLOSED:
            self.reason = ""
        self._changed(before)

    def _refusal(self, again_in: float) -> BreakerOpen:
        return BreakerOpen(self._name, self._now() - self._opened_at, self._failures, self.reason, again_in)
