"""Hearing once more what a lane has heard: for a rebuild, and for a replay."""

from typing import NamedTuple

from streams.kit.clock import Verdict
from streams.kit.errors import ForeignWriter
from streams.kit.lane import Lane


class HearingAgain(Lane):
    """A lane that passes over what is nobody's fact: either somebody has decided to go on, or nothing behind it was
    heard. No row follows from it."""

    def _met(self, topic: str, foreign: ForeignWriter) -> Verdict:
        self._queues[topic].popleft()
        return Verdict.KNOWN


class Stray(NamedTuple):
    """A fact that stands where others are missing before it."""

    offset: int
    sequence: int


class Strays:
    """The strays of one topic. Once its log was restored (`pavane log restore`) they stand there once more, behind what
    was missing: so each is passed over, and something is missing only if that does not come."""

    def __init__(self) -> None:
        self._first: Stray | None = None
        self._highest: Stray | None = None

    def pass_over(self, offset: int, sequence: int) -> None:
        """This one stands there."""
        stray = Stray(offset, sequence)
        if self._first is None:
            self._first = stray
        if self._highest is None or sequence > self._highest.sequence:
            self._highest = stray

    def left(self, known: int) -> Stray | None:
        """One that has not come once more, when everything up to `known` has come in order: there is the gap."""
        if self._highest is None or self._highest.sequence <= known:
            self._first = self._highest = None
            return None
        return self._first if self._first is not None and self._first.sequence > known else self._highest

    def held(self, position: int, known: int) -> int:
        """From where to read on, for whoever remembers no strays."""
        stray = self.left(known)
        return position if stray is None else min(position, stray.offset)
