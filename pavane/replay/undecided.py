"""Decisions that differ for now: they read rows that other lanes changed at about that time, in an order nobody noted.

Kept by time, to end them, and by the rows that they read, so that a change is shown only to those that it concerns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pavane.replay.outcome import Outcome
from pavane.replay.states import Change, Place
from streams.kit.events import Fact, State
from streams.kit.lane import Lane
from streams.kit.opening import Opened


@dataclass(eq=False)
class Undecided:
    """One such decision. `row`: its own row then; `read`: the others, with what other lanes have done to them since.

    After `until` nothing can have changed before it.
    """

    lane: Lane
    opened: Opened
    facts: tuple[Fact, ...]
    was: Outcome
    would: Outcome
    until: float
    row: State | None
    read: dict[str, State]
    tried: int = 0

    @property
    def places(self) -> Sequence[Place]:
        """The rows of other keys that it read."""
        return [(type(row), key) for key, row in self.read.items()]


class AllUndecided:
    """All of them, added in the order of their `until`."""

    def __init__(self) -> None:
        self._all: dict[Undecided, None] = {}
        self._by_row: dict[Place, dict[Undecided, None]] = {}

    def add(self, one: Undecided) -> None:
        self._all[one] = None
        for place in one.places:
            self._by_row.setdefault(place, {})[one] = None

    def remove(self, one: Undecided) -> None:
        del self._all[one]
        for place in one.places:
            of_row = self._by_row[place]
            del of_row[one]
            if not of_row:
                del self._by_row[place]

    def touched_by(self, change: Change) -> Sequence[Undecided]:
        """Those that read the row, and may have read it as another lane has now left it."""
        of_row = self._by_row.get(change.place, ())
        return [each for each in of_row if each.lane.partition != change.partition]

    def take_until(self, now: float) -> Iterator[Undecided]:
        """Take out those whose time is over."""
        while self._all and (oldest := next(iter(self._all))).until <= now:
            self.remove(oldest)
            yield oldest
