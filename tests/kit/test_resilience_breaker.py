"""The circuit breaker under any interleaving of calls, endings and time."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from streams.kit.breaker import Breaker, Mode
from streams.kit.errors import BreakerOpen
from streams.kit.policies import Policy


class Breaking(RuleBasedStateMachine):
    """What is known from outside: who was let in, how they ended, and when."""

    tickets: Any = Bundle("tickets")

    @initialize(failures=st.integers(1, 3), probes=st.integers(1, 3))
    def begin(self, failures: int, probes: int) -> None:
        self.policy = Policy(failures_to_open=failures, open_seconds=10.0, probes=probes)
        self.seconds = 0.0
        self.turns: list[tuple[Mode, Mode]] = []
        self.breaker = Breaker("bell", self.policy, lambda: self.seconds, self.note)
        self.opened_at = 0.0
        self.in_a_row = 0
        self.here: list[int] = []
        """Tickets given out since the last change of mode, not given back yet."""
        self.answered = 0

    def note(self, before: Mode) -> None:
        self.turns.append((before, self.breaker.mode))
        self.here = []
        self.answered = 0
        if self.breaker.mode is Mode.OPEN:
            self.opened_at = self.seconds

    @rule(seconds=st.sampled_from([0.5, 4.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds

    @rule(target=tickets)
    def call(self) -> Any:
        mode, waited = self.breaker.mode, self.seconds - self.opened_at
        try:
            ticket = self.breaker.admit()
        except BreakerOpen as refusal:
            assert refusal.retry_after_seconds > 0
            if mode is Mode.OPEN:
                assert waited < self.policy.open_seconds
            else:
                assert mode is Mode.HALF_OPEN
                assert len(self.here) + self.answered == self.policy.probes
            return None
        assert mode is not Mode.OPEN or waited >= self.policy.open_seconds
        self.here.append(ticket)
        return ticket

    @rule(ticket=consumes(tickets))
    def answer(self, ticket: int | None) -> None:
        if ticket is None:
            return
        counts = ticket in self.here
        mode = self.breaker.mode
        if counts:
            self.here.remove(ticket)
            self.answered += 1
            self.in_a_row = 0
        answered = self.answered
        turns = len(self.turns)
        self.breaker.answered(ticket)
        closes = counts and mode is Mode.HALF_OPEN and answered == self.policy.probes
        assert self.turns[turns:] == ([(Mode.HALF_OPEN, Mode.CLOSED)] if closes else [])

    @rule(ticket=consumes(tickets))
    def fail(self, ticket: int | None) -> None:
        if ticket is None:
            return
        counts = ticket in self.here
        mode = self.breaker.mode
        if counts:
            self.here.remove(ticket)
            self.in_a_row += 1
        turns = len(self.turns)
        self.breaker.failed(ticket, "no bell")
        opens = counts and (mode is Mode.HALF_OPEN or self.in_a_row >= self.policy.failures_to_open)
        assert self.turns[turns:] == ([(mode, Mode.OPEN)] if opens else [])

    @rule(ticket=consumes(tickets))
    def call_off(self, ticket: int | None) -> None:
        if ticket is None:
            return
        if ticket in self.here:
            self.here.remove(ticket)
        turns = len(self.turns)
        self.breaker.left(ticket)
        assert len(self.turns) == turns

    @invariant()
    def no_more_probes_than_allowed(self) -> None:
        if self.breaker.mode is Mode.HALF_OPEN:
            assert len(self.here) + self.answered <= self.policy.probes

    @precondition(lambda self: not self.here)
    @invariant()
    def it_is_never_shut_for_ever(self) -> None:
        """With nobody under way, somebody is let in at the latest when the time is over."""
        if self.breaker.mode is Mode.OPEN:
            assert 0 <= self.breaker.again_in_seconds <= self.policy.open_seconds
        elif self.breaker.mode is Mode.HALF_OPEN:
            self.breaker.left(self.breaker.admit())


Breaking.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_the_breaker_keeps_its_rules = Breaking.TestCase


def test_a_call_from_before_it_opened_neither_closes_nor_reopens_it() -> None:
    seconds = 0.0
    breaker = Breaker("bell", Policy(failures_to_open=1, open_seconds=10.0), lambda: seconds)
    early, late = breaker.admit(), breaker.admit()
    breaker.failed(early, "no bell")
    seconds = 10.0
    probe = breaker.admit()

    for come_too_late in (breaker.answered, lambda ticket: breaker.failed(ticket, "no bell"), breaker.left):
        come_too_late(late)
        with pytest.raises(BreakerOpen):
            breaker.admit()

    breaker.answered(probe)
    assert breaker.mode is Mode.CLOSED
