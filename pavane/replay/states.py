"""The rows of a service at each moment of its past, as the facts that it said then made them.

Rows of which nothing was heard for long are kept in a temporary file, so that memory does not grow with the number of
orders. Changes of rows that other lanes read are remembered for a while: in which order two lanes changed a row and
read it is not recorded, but nobody's transaction was open for longer than that.
"""

import heapq
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from streams.kit.events import Event, State
from streams.kit.service import Service

MOST_ROWS = 50_000
WINDOW_MILLISECONDS = 10_000
Place = tuple[type[State], str]


class Change(NamedTuple):
    """What a lane made of a row that other lanes read. `number`: grows with every change."""

    number: int
    timestamp: float
    partition: int
    place: Place
    before: State
    after: State

    def undone(self, row: State) -> State:
        """What the row would be without it."""
        return _plus(row, self.after, self.before) if row.shared else self.before

    def done(self, row: State) -> State:
        """What the row would be with it."""
        return _plus(row, self.before, self.after) if row.shared else self.after


class States:
    """`changed` is told of every change of a row that decisions about other keys read."""

    def __init__(self, service: Service, most_rows: int = MOST_ROWS) -> None:
        self.changed: Callable[[Change], None] = lambda change: None
        self._service = service
        self._most_rows = most_rows
        self._rows: dict[Place, State] = {}
        self._read_by_others = {
            reaction.reads.state for reaction in service.reactions.values() if reaction.reads is not None
        }
        #: The same changes twice: by time, to forget them, and by row, to find them.
        self._recent: deque[Change] = deque()
        self._recent_of: dict[Place, deque[Change]] = {}
        self._changes = 0
        # An empty name is SQLite's for a file that nobody sees and that goes with the connection.
        self._file = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE rows (state, key, value BLOB, PRIMARY KEY (state, key)) WITHOUT ROWID")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def get(self, state: type[State], key: str, partition: int) -> State:
        """The row as it is now."""
        place = (state, key)
        row = self._rows.pop(place, None) or self._filed(state, key) or state.new(key, partition)
        self._rows[place] = row
        if len(self._rows) > self._most_rows:
            self._file_oldest()
        return row

    def fold(self, fact: Event, key: str, partition: int, timestamp: float) -> None:
        """What the fact makes of the rows."""
        for evolution in self._service.evolutions.get(type(fact), ()):
            if evolution.state.append_only:
                continue
            for row_key in evolution.keys_of(fact, key):
                before = self.get(evolution.state, row_key, partition)
                place = (evolution.state, row_key)
                after = self._rows[place] = evolution.evolve(before, fact)
                if evolution.state in self._read_by_others:
                    self._changes += 1
                    change = Change(self._changes, timestamp, partition, place, before, after)
                    self._recent.append(change)
                    self._recent_of.setdefault(place, deque()).append(change)
                    self.changed(change)
        while self._recent and self._recent[0].timestamp < timestamp - WINDOW_MILLISECONDS:
            self._forget(self._recent.popleft())

    def earlier(self, rows: Mapping[str, State], partition: int) -> Iterator[Mapping[str, State]]:
        """What these rows would have been without what other lanes than `partition` did of late, going backwards."""
        now = dict(rows)
        places = [(type(row), key) for key, row in rows.items()]
        of_rows = (reversed(self._recent_of.get(place, ())) for place in places)
        for change in heapq.merge(*of_rows, key=lambda change: -change.number):
            key = change.place[1]
            if change.partition != partition:
                now[key] = change.undone(now[key])
                yield dict(now)

    def _forget(self, change: Change) -> None:
        of_row = self._recent_of[change.place]
        of_row.popleft()
        if not of_row:
            del self._recent_of[change.place]

    def _filed(self, state: type[State], key: str) -> State | None:
        found = self._file.execute("SELECT value FROM rows WHERE state = ? AND key = ?", (state.table, key)).fetchone()
        return msgspec.msgpack.decode(found[0], type=state) if found is not None else None

    def _file_oldest(self) -> None:
        oldest = [place for place, _ in zip(self._rows, range(self._most_rows // 2), strict=False)]
        self._file.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", map(self._written, oldest))

    def _written(self, place: Place) -> tuple[Any, ...]:
        state, key = place
        return state.table, key, msgspec.msgpack.encode(self._rows.pop(place))


def _plus(row: State, before: State, after: State) -> State:
    """The row with what was added between the two: folds of shared rows are additive."""
    numbers = {
        name: value + getattr(after, name) - getattr(before, name)
        for name, value in msgspec.structs.asdict(row).items()
        if type(value) is int
    }
    return msgspec.structs.replace(row, **numbers)
