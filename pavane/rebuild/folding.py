"""What stretches of facts make of the rows of one lane, with the fresh tables behind and little in memory."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from psycopg import AsyncConnection, sql

from pavane.rebuild.errors import CannotFold
from pavane.rebuild.stretches import Stretch
from streams.kit.events import Event, State
from streams.kit.fold import evolve
from streams.kit.rows import Place, Remembered, Rows
from streams.kit.service import Service
from streams.kit.statements import select

MOST_REMEMBERED_ROWS = 50_000
FILTER_BITS = 1 << 27
KEYS_AT_ONCE = 20_000


class Known:
    """Which keys a table may hold: a Bloom filter (1970) of 16 MB. A key that it denies need not be looked up."""

    def __init__(self) -> None:
        self._bits = bytearray(FILTER_BITS // 8)

    def add(self, keys: Iterable[str]) -> None:
        bits, most = self._bits, FILTER_BITS - 1
        for key in keys:
            number = hash(key)
            low, high = number & most, (number >> 32) & most
            bits[low >> 3] |= 1 << (low & 7)
            bits[high >> 3] |= 1 << (high & 7)

    def may_hold(self, key: str) -> bool:
        bits, most, number = self._bits, FILTER_BITS - 1, hash(key)
        low, high = number & most, (number >> 32) & most
        return bool(bits[low >> 3] >> (low & 7) & 1 and bits[high >> 3] >> (high & 7) & 1)


class Made(NamedTuple):
    """What facts have made of rows, and which own rows were in no table before."""

    rows: Rows
    new: set[Place]

    def parted(self) -> tuple[dict[type[State], list[State]], dict[type[State], list[State]]]:
        """The rows to write that nobody has written yet, and the others: those that replace or add."""
        new: dict[type[State], list[State]] = {}
        others: dict[type[State], list[State]] = {}
        for state, rows in self.rows.changed().items():
            for row in rows:
                is_new = state.append_only or (state, row.row_key) in self.new
                (new if is_new else others).setdefault(state, []).append(row)
        return new, others


class Folding:
    """Folds one lane. `connection` sees the tables that its rows are loaded from; what they became is in `made`.

    Shared rows are not loaded: what is made of them is what the facts add to them. `on_top`: of tables that are full.
    """

    def __init__(
        self, service: Service, partition: int, connection: AsyncConnection[tuple[Any, ...]], *, on_top: bool = False
    ) -> None:
        self._service = service
        self.partition = partition
        self._connection = connection
        self._own = tuple(state for state in service.states if not (state.shared or state.append_only))
        self._known = {state: None if on_top else Known() for state in self._own}
        self._remembered = Remembered(MOST_REMEMBERED_ROWS)
        self.made = Made(Rows(), set())

    async def prepare(self) -> None:
        """Learn which rows there are already, of a rebuild that was interrupted."""
        for state, known in self._known.items():
            if known is not None:
                async for keys in self._keys(state):
                    known.add(keys)

    async def _keys(self, state: type[State]) -> AsyncIterator[list[str]]:
        query = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(state.key), sql.Identifier(state.table))
        async with self._connection.transaction(), self._connection.cursor(name="keys") as cursor:
            await cursor.execute(query)
            while found := await cursor.fetchmany(KEYS_AT_ONCE):
                yield [str(key) for (key,) in found]

    async def fold(self, stretch: Stretch) -> None:
        """Fold these facts into what is made. Raises `CannotFold`."""
        await self._give(stretch.events)
        rows, partition = self.made.rows, self.partition
        for event, key in stretch.events:
            try:
                evolve(self._service, rows, event, key, partition)
            except Exception as error:
                # Whatever a fold makes of a fact that it cannot take: then the rows cannot be made from the log.
                raise CannotFold(f"{type(event).__name__} about {key}", error) from error

    def begin(self) -> None:
        """What was made is in the tables now: make something new."""
        for row in self.made.rows.own():
            self._remembered.note(self.partition, row)
        self.made = Made(Rows(), set())

    async def _give(self, events: Sequence[tuple[Event, str]]) -> None:
        """Put the own rows in that these facts change: remembered ones, those of the tables, and new ones."""
        rows = self.made.rows
        for state, keys in rows.missing(self._wanted(events)).items():
            known = self._known[state]
            absent, found = [], []
            for key in keys:
                row = self._remembered.find(self.partition, state, key)
                if row is not None:
                    found.append(row)
                elif known is None or known.may_hold(key):
                    absent.append(key)
            found += await self._load(state, absent)
            rows.give(state, found, keys, dict.fromkeys(keys, self.partition))
            there = {row.row_key for row in found}
            self.made.new.update((state, key) for key in keys if key not in there)
            if known is not None:
                known.add(keys)

    def _wanted(self, events: Sequence[tuple[Event, str]]) -> dict[type[State], set[str]]:
        wanted: dict[type[State], set[str]] = {}
        evolutions = self._service.evolutions
        for event, key in events:
            for evolution in evolutions.get(type(event), ()):
                if evolution.state in self._known:
                    wanted.setdefault(evolution.state, set()).update(evolution.keys_of(event, key))
        return wanted

    async def _load(self, state: type[State], keys: Collection[str]) -> Sequence[State]:
        return await load(self._connection, state, keys) if keys else ()


async def load(
    connection: AsyncConnection[tuple[Any, ...]], state: type[State], keys: Collection[str]
) -> Sequence[State]:
    """Rows of the tables that the connection sees, as they are."""
    cursor = await connection.execute(select(state), (sorted(keys),))
    [text] = await cursor.fetchone() or ("[]",)
    return msgspec.json.decode(str(text), type=list[state], strict=False)  # type: ignore[valid-type]
