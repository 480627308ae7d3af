"""The fresh rows against the live ones, while orders flow: what differs, told apart from what is merely newer.

Both are looked at in one transaction, which sees a single moment. The live rows are then further by the facts that were
said (for a projection: heard) since the fresh ones were folded. These facts are folded on top, in memory, so that every
live row is compared with the fold of exactly the facts that it knows.

The place of a view's entry among others (`ordinal`) follows from how topics were read, and is not compared. JSON is
compared by what it says: PostgreSQL keeps neither its spaces nor the order of its names.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString

import msgspec
from msgspec.structs import replace
from psycopg import IsolationLevel, sql

from pavane.rebuild import beside
from pavane.rebuild.folding import Folding
from pavane.rebuild.stretches import Stretch
from streams.kit.events import State
from streams.kit.service import Service

MOST_SHOWN = 5
ROWS_AT_ONCE = 1_000
LIVE = "public"
ORDINAL = "ordinal"
_MEMORY: LiteralString = "SET LOCAL work_mem = '64MB'"
_DIFFERING: LiteralString = (
    "SELECT to_json(l)::text, to_json(f)::text FROM {live} l FULL JOIN {fresh} f ON l.{key} = f.{key} "
    "WHERE ({of_live}) IS DISTINCT FROM ({of_fresh})"
)
_COUNT: LiteralString = "SELECT count(*) FROM {}"
_KEYS: LiteralString = "SELECT {} FROM {} LIMIT {}"
_SOME: LiteralString = "SELECT to_json(r)::text FROM {} r WHERE {} = ANY(%s)"

Newer = Callable[[beside.Connection], AsyncIterator[tuple[int, Stretch]]]
Expected = dict[type[State], dict[str, State]]


@dataclass
class Difference:
    """What comparing one table has found. `newer`: rows that the fresh table will have by facts said since."""

    table: str
    rows: int = 0
    newer: int = 0
    missing: int = 0
    unexplained: int = 0
    changed: int = 0
    shown: list[str] = field(default_factory=list)

    @property
    def differing(self) -> int:
        return self.missing + self.unexplained + self.changed

    def note(self, key: str, live: State | None, made: State | None) -> None:
        """A live row, and what the facts make of it."""
        if live is not None and made is not None and _compared(live) == _compared(made):
            self.newer += 1
        elif live is None:
            self.missing += 1
            self._show(f"{self.table} {key}: there is no such row, but the facts make one")
        elif made is None:
            self.unexplained += 1
            self._show(f"{self.table} {key}: no fact says that this row exists")
        else:
            self.changed += 1
            pairs = zip(live.__struct_fields__, _compared(live), _compared(made), strict=True)
            told = (f"{name} is {one!r}, the facts make it {other!r}" for name, one, other in pairs if one != other)
            self._show(f"{self.table} {key}: {'; '.join(told)}")

    def _show(self, line: str) -> None:
        if len(self.shown) < MOST_SHOWN:
            self.shown.append(line)


async def compare(service: Service, url: str, newer: Newer) -> list[Difference]:
    """Compare all tables of the service. `newer`: the facts that the live rows know and the fresh ones do not, lane by
    lane, as the connection that it is given sees it."""
    async with beside.connected(service.name, url, "-c jit=off") as connection:
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        async with connection.transaction():
            await connection.execute(_MEMORY)
            expected = await _expected(service, connection, newer(connection))
            return [await _table(connection, state, expected.get(state, {})) for state in service.states]


async def _expected(
    service: Service, connection: beside.Connection, newer: AsyncIterator[tuple[int, Stretch]]
) -> Expected:
    """The rows that the newer facts change, as they make them."""
    await connection.execute(sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(beside.SCHEMA)))
    foldings: dict[int, Folding] = {}
    expected: Expected = {}
    async for partition, stretch in newer:
        folding = foldings.setdefault(partition, Folding(service, partition, connection, on_top=True))
        await folding.fold(stretch)
        for row in [*folding.made.rows.put_rows()]:
            rows = expected.setdefault(type(row), {})
            before = rows.get(row.row_key) if row.shared else None
            rows[row.row_key] = _sum(before, row) if before is not None else row
        folding.begin()
    for state, rows in expected.items():
        if state.shared:
            for before in await _some(connection, beside.SCHEMA, state, [*rows]):
                rows[before.row_key] = _sum(before, rows[before.row_key])
    return expected


def _sum(before: State, added: State) -> State:
    """A shared row with what was added to it."""
    numbers = {
        name: value + getattr(before, name)
        for name, value in msgspec.structs.asdict(added).items()
        if type(value) is int
    }
    return replace(added, **numbers)


async def _table(connection: beside.Connection, state: type[State], expected: Mapping[str, State]) -> Difference:
    found = Difference(state.table)
    cursor = await connection.execute(sql.SQL(_COUNT).format(sql.Identifier(LIVE, state.table)))
    [found.rows] = await cursor.fetchone() or (0,)
    unseen = dict(expected)
    if not found.rows:
        await _all_missing(connection, state, found)
        return found
    async with connection.cursor(name="differing") as rows:
        rows.itersize = ROWS_AT_ONCE
        await rows.execute(_differing(state))
        async for of_live, of_fresh in rows:
            live, fresh = _row(state, of_live), _row(state, of_fresh)
            key = (live or fresh or state.new("")).row_key
            found.note(key, live, unseen.pop(key, fresh))
    # Rows that are as they were, though newer facts are about them.
    same = {row.row_key: row for row in await _some(connection, LIVE, state, [*unseen])}
    for key, row in unseen.items():
        live = same.get(key)
        if live is None or _compared(live) != _compared(row):
            found.note(key, live, row)
    return found


async def _all_missing(connection: beside.Connection, state: type[State], found: Difference) -> None:
    """There is no live row, as after a loss: nothing to compare one by one."""
    fresh, key = sql.Identifier(beside.SCHEMA, state.table), sql.Identifier(state.key)
    cursor = await connection.execute(sql.SQL(_KEYS).format(key, fresh, sql.Literal(MOST_SHOWN)))
    for (each,) in await cursor.fetchall():
        found.note(each, None, state.new(each))
    cursor = await connection.execute(sql.SQL(_COUNT).format(fresh))
    [found.missing] = await cursor.fetchone() or (0,)


def _differing(state: type[State]) -> sql.Composed:
    columns = [each for each in state.__struct_fields__ if not (state.append_only and each == ORDINAL)]
    return sql.SQL(_DIFFERING).format(
        live=sql.Identifier(LIVE, state.table),
        fresh=sql.Identifier(beside.SCHEMA, state.table),
        key=sql.Identifier(state.key),
        of_live=sql.SQL(", ").join(sql.Identifier("l", each) for each in columns),
        of_fresh=sql.SQL(", ").join(sql.Identifier("f", each) for each in columns),
    )


async def _some(connection: beside.Connection, schema: str, state: type[State], keys: list[str]) -> list[State]:
    if not keys:
        return []
    query = sql.SQL(_SOME).format(sql.Identifier(schema, state.table), sql.Identifier(state.key))
    cursor = await connection.execute(query, (keys,))
    return [row for (document,) in await cursor.fetchall() if (row := _row(state, document)) is not None]


def _row(state: type[State], document: str | None) -> State | None:
    return None if document is None else msgspec.json.decode(document, type=state, strict=False)


def _compared(row: State) -> list[Any]:
    """What is compared of a row, in the order of its fields."""
    return [
        None if row.append_only and name == ORDINAL
        else msgspec.json.decode(value) if isinstance(value, msgspec.Raw)
        else value
        for name, value in msgspec.structs.asdict(row).items()
    ]  # fmt: skip
