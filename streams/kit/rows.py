"""The rows of one batch, in memory: what was loaded, what became of it, and what to write back.

Rows that only the lane's owner changes are written back whole. Shared rows are changed from several partitions, so what
is written back is what was *added* to them: their folds are additive, and an addition is right whatever else was added
meanwhile, even to a row that was not there before.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

from msgspec.structs import asdict, replace

from streams.kit.events import State

S = TypeVar("S", bound=State)
Place = tuple[type[State], str]
Wanted = Mapping[type[State], Collection[str]]

MOST_REMEMBERED_ROWS = 5_000
_NONE: Mapping[Place, State] = MappingProxyType({})


class RowMissing(LookupError):
    """A row that is not in memory is needed: load it and fold the batch again."""

    def __init__(self, state: type[State], key: str) -> None:
        super().__init__(f"{state.table} {key}")
        self.state = state
        self.key = key


class Remembered:
    """Own rows as the last commits left them, in the lanes that are held: they need not be loaded again.

    Only a lane's owner changes the lane's own rows, so what it wrote last is what the database holds, until the lane is
    dropped. Of each lane the rows that were used last are remembered, `most_rows` of them.
    """

    def __init__(self, most_rows: int = MOST_REMEMBERED_ROWS) -> None:
        self._most_rows = most_rows
        self._lanes: dict[int, dict[Place, State]] = {}

    def find(self, partition: int, state: type[State], key: str) -> State | None:
        """The row, if it is remembered."""
        return self._lanes.get(partition, _NONE).get((state, key))

    def note(self, partition: int, row: State) -> None:
        """The row was committed like this, or loaded and not changed, by the owner of the lane."""
        lane = self._lanes.setdefault(partition, {})
        place = (type(row), row.row_key)
        lane.pop(place, None)
        lane[place] = row
        if len(lane) > self._most_rows:
            del lane[next(iter(lane))]

    def forget(self, partition: int) -> None:
        """The lane is not held any more, or it is not known what was committed."""
        self._lanes.pop(partition, None)


class Changes(NamedTuple):
    """What to write to one table: whole rows, or rows of the additions to shared ones, in key order."""

    state: type[State]
    rows: Sequence[State]


class Rows:
    """Rows by kind and key. `reset` goes back to what was loaded; `undo` to a mark within a fold."""

    def __init__(self) -> None:
        self._loaded: dict[Place, State] = {}
        self._now: dict[Place, State] = {}
        self._log: list[tuple[Place, State | None]] = []

    def give(
        self,
        state: type[State],
        found: Iterable[State],
        keys: Iterable[str],
        homes: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Put loaded rows in; for `keys` that were not found, rows that nothing was ever said about, in `homes`."""
        for row in found:
            self._loaded[state, row.row_key] = row
        for key in keys:
            if (state, key) not in self._loaded:
                self._loaded[state, key] = state.new(key, homes.get(key, -1))

    def missing(self, wanted: Wanted) -> dict[type[State], list[str]]:
        """Which of the wanted rows were not loaded yet, by kind, in key order."""
        lacking = {
            state: sorted({key for key in keys if (state, key) not in self._loaded}) for state, keys in wanted.items()
        }
        return {state: keys for state, keys in lacking.items() if keys}

    def get(self, state: type[S], key: str, partition: int = -1) -> S:
        """The row as it is now. Raises `RowMissing` for a row that must be loaded first."""
        place = (state, key)
        row = self._now.get(place) or self._loaded.get(place)
        if row is None:
            if state.append_only:
                return state.new(key, partition)
            if not state.shared:
                raise RowMissing(state, key)
            row = self._loaded[place] = state.new(key, partition)
        return cast("S", row)

    def put(self, row: State) -> None:
        """The row has become this."""
        place = type(row), row.row_key
        self._log.append((place, self._now.get(place)))
        self._now[place] = row

    def mark(self) -> int:
        """A point within the fold to go back to."""
        return len(self._log)

    def undo(self, mark: int) -> None:
        """Take back what was put since the mark."""
        while len(self._log) > mark:
            place, before = self._log.pop()
            if before is None:
                del self._now[place]
            else:
                self._now[place] = before

    def reset(self) -> None:
        """Take back everything that was put."""
        self._now.clear()
        self._log.clear()

    def own(self) -> Iterable[State]:
        """The rows that only the lane's owner changes, as they are now."""
        now = self._now
        return (
            now.get(place) or row
            for place, row in self._loaded.items()
            if not (place[0].shared or place[0].append_only)
        )

    def put_rows(self) -> Iterable[State]:
        """The rows that were put, as they are now."""
        return self._now.values()

    def changed(self) -> dict[type[State], list[State]]:
        """The rows that are not as they were loaded, by kind."""
        by_state: dict[type[State], list[State]] = {}
        for place, row in self._now.items():
            if row != self._loaded.get(place):
                by_state.setdefault(place[0], []).append(row)
        return by_state

    def changes(self) -> list[Changes]:
        """What to write back, one entry a table, own rows before shared ones."""
        return self.written(self.changed())

    def written(self, changed: Mapping[type[State], Collection[State]]) -> list[Changes]:
        """These rows as they are written back."""
        ordered = sorted(changed.items(), key=lambda item: (item[0].shared, item[0].table))
        return [self._written(state, sorted(rows, key=lambda row: row.row_key)) for state, rows in ordered]

    def _written(self, state: type[State], rows: list[State]) -> Changes:
        if state.shared:
            rows = [added(self._loaded[state, row.row_key], row) for row in rows]
        return Changes(state, rows)


def added(before: S, after: S) -> S:
    """What was added to a shared row: numbers as differences, everything else as it is now."""
    numbers = {name: value for name, value in asdict(after).items() if type(value) is int}
    return replace(after, **{name: value - cast("int", getattr(before, name)) for name, value in numbers.items()})
