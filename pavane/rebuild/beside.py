"""The fresh tables beside the live ones: a schema of their own in the service's database, by the same migrations.

How far each lane is stands in the fresh `lanes`, moved in the transaction that writes its rows: whoever is interrupted
goes on from there. Which code fills them stands in the fresh `operations`: rows that other code made are made again.
"""

import hashlib
import importlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, LiteralString, NamedTuple, TypeAlias

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb
from sqlalchemy import make_url

import pavane.rehearing
from infra.addresses import database_variable
from pavane.operators.errors import DatabaseUnreadable
from pavane.rebuild.copying import copy_of, lines
from pavane.rebuild.errors import UnderWay
from pavane.rebuild.folding import Made
from pavane.rebuild.stretches import Origin, Stretch
from streams.kit.columns import arrays
from streams.kit.events import State
from streams.kit.language import Language
from streams.kit.migrations import migrate
from streams.kit.rows import Changes
from streams.kit.service import Service
from streams.kit.statements import save

SCHEMA = "rebuilt"
CONNECT_TIMEOUT_SECONDS = 5
NAME = "pavane-rebuild"
_OPTIONS = f"-c search_path={SCHEMA} -c synchronous_commit=off -c jit=off -c enable_seqscan=off"

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]


#: Indexes that no constraint stands on.
_INDEXES: LiteralString = (
    "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i "
    "WHERE i.indrelid = ANY(%s::regclass[]) AND NOT i.indisprimary "
    "AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)"
)
_MEMORY: LiteralString = "SET maintenance_work_mem = '256MB'"
_ALONE: LiteralString = "SELECT pg_try_advisory_lock(hashtext('pavane rebuild'))"
_MOVE: LiteralString = (
    "UPDATE lanes SET positions = %s, clock = %s, outbox_row = %s "
    "WHERE partition = %s AND positions = %s AND outbox_row = %s"
)
_PLACE: LiteralString = "UPDATE lanes SET positions = %s, clock = %s, outbox_row = %s WHERE partition = %s"


class Begun(NamedTuple):
    """A rebuild as it was begun: by which code, without which records that a projection had put aside.

    `indexes`: statements that make the indexes again which the tables had; the tables are filled without them.
    `backup`: a digest of the address whose rows it began with, if it did.
    """

    code: str
    parked: frozenset[Origin]
    indexes: tuple[str, ...] = ()
    backup: str = ""


class Lane(NamedTuple):
    """How far the fresh rows of a lane are."""

    partition: int
    positions: Mapping[str, int]
    clock: Mapping[str, int]
    facts: int


@asynccontextmanager
async def connected(
    service: str, url: str, options: str = _OPTIONS, named_by: str = ""
) -> AsyncIterator[Connection]:
    """A connection that sees the fresh tables and no others. `named_by`: what gave the URL, if not the service's
    variable. Raises `DatabaseUnreadable`."""
    try:
        # What the URL itself sets (an `options`) is kept: the later one of two wins.
        given = make_url(url).query.get("options", "")
        connection = await AsyncConnection.connect(
            make_conninfo(url, options=f"{given} {options}".strip()),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            application_name=NAME,
        )
        async with connection:
            yield connection
    except psycopg.Error as error:
        raise DatabaseUnreadable(service, named_by or database_variable(service), error) from error


@asynccontextmanager
async def alone(service: str, url: str) -> AsyncIterator[None]:
    """For the length of the block nobody else rebuilds this service. Raises `UnderWay`."""
    async with connected(service, url) as connection:
        cursor = await connection.execute(_ALONE)
        if not (await cursor.fetchone() or (False,))[0]:
            raise UnderWay(service)
        yield


def code_of(service: Service, language: Language) -> str:
    """A digest of the code and the schemas that a rebuild of this service depends on."""
    digest = hashlib.sha256()
    for name, path in files_of(service).items():
        digest.update(name.encode() + path.read_bytes())
    for schema in language:
        digest.update(schema.text.encode())
    return digest.hexdigest()[:16]


def files_of(service: Service) -> dict[str, Path]:
    """The code that makes rows: the service's own, the kit's, and a rebuild's; by package and place there, in order."""
    found: dict[str, Path] = {}
    for package in (f"streams.{service.name}", "streams.kit", "pavane.rebuild"):
        folder = Path(importlib.import_module(package).__file__ or "").parent
        found |= {f"{package}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*.py")}
    found["pavane/rehearing.py"] = Path(pavane.rehearing.__file__)
    return dict(sorted(found.items()))


def make_tables(service: str, url: str) -> None:
    """Make the schema and its tables, or bring them up to date, as they are made for the live ones."""
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
    parsed = make_url(url)
    given = parsed.query.get("options", "")
    options = f"{given} -c search_path={SCHEMA}".strip()
    migrate(service, parsed.update_query_dict({"options": options}).render_as_string(hide_password=False))


async def forget(connection: Connection) -> None:
    """Drop the fresh tables, whatever is in them."""
    await connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCHEMA)))


async def begun(connection: Connection) -> Begun | None:
    """The rebuild that is there, unfinished or finished; None when there is none."""
    cursor = await connection.execute("SELECT to_regclass('operations') IS NOT NULL")
    if not (await cursor.fetchone() or (False,))[0]:
        return None
    query = "SELECT items FROM operations WHERE what = 'rebuild' ORDER BY number DESC LIMIT 1"
    cursor = await connection.execute(query)
    row = await cursor.fetchone()
    if row is None:
        return None
    code, parked, *rest = row[0]
    indexes, backup = (*rest, "")[:2] if rest else ((), "")
    return Begun(code, frozenset((t, p, o) for t, p, o in parked), tuple(indexes), backup)


async def begin(
    connection: Connection, service: Service, code: str, parked: Iterable[Origin], partitions: int, backup: str = ""
) -> None:
    """Note what is rebuilt by which code and from which `backup`, every lane at its beginning (or where the backup will
    put it), and leave the indexes for later (`complete`)."""
    async with connection.transaction():
        cursor = await connection.execute(_INDEXES, ([state.table for state in service.states],))
        indexes: dict[str, str] = dict(await cursor.fetchall())
        for name in indexes:
            await connection.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(name)))
        await connection.execute(
            "INSERT INTO operations (who, what, items, subject, why, outcome) VALUES ('', 'rebuild', %s, '', '', '')",
            (Jsonb([code, sorted(parked), [*indexes.values()], backup]),),
        )
        await connection.execute(
            "INSERT INTO lanes (partition, partition_count, epoch) SELECT p, %s, 0 FROM generate_series(0, %s) p",
            (partitions, partitions - 1),
        )


async def complete(connection: Connection) -> None:
    """Make the indexes that are missing: over full tables that takes a fraction of what it costs row by row."""
    noted = await begun(connection)
    await connection.execute(_MEMORY)
    for index in noted.indexes if noted is not None else ():
        await connection.execute(index.replace("INDEX ", "INDEX IF NOT EXISTS ", 1).encode())


async def lanes(connection: Connection) -> dict[int, Lane]:
    """How far every lane is."""
    # The fresh tables have no outbox to count: the number of facts is kept where its rows would be numbered.
    cursor = await connection.execute("SELECT partition, positions, clock, outbox_row FROM lanes ORDER BY partition")
    return {partition: Lane(partition, *rest) for partition, *rest in await cursor.fetchall()}


async def place(
    connection: Connection, partition: int, positions: Mapping[str, int], clock: Mapping[str, int]
) -> None:
    """The rows of this lane know what this clock says, and what comes after that is read from these positions on."""
    there = Jsonb(dict(positions)), Jsonb(dict(clock)), sum(positions.values())
    await connection.execute(_PLACE, (*there, partition))


async def write(connection: Connection, service: str, lane: Lane, stretch: Stretch, made: Made) -> Lane:
    """Rows and how far their lane is, in one transaction; the lane as it is then. `lane`: as it was. Raises `UnderWay`
    when somebody else has moved it."""
    new, others = made.parted()
    moved = Lane(lane.partition, stretch.positions, stretch.clock, lane.facts + stretch.records)
    try:
        await _write(connection, service, lane, moved, new, made.rows.written(others))
    except psycopg.errors.UniqueViolation:
        # An append-only row of a key that was there: the first fact has made it, and it stays.
        await _write(connection, service, lane, moved, {}, made.rows.changes())
    return moved


async def _write(
    connection: Connection,
    service: str,
    lane: Lane,
    moved: Lane,
    new: Mapping[type[State], Collection[State]],
    changes: Iterable[Changes],
) -> None:
    async with connection.transaction():
        # First of all: shared rows that two had folded would have everything added twice.
        places = Jsonb(dict(moved.positions)), Jsonb(dict(moved.clock)), moved.facts
        before = lane.partition, Jsonb(dict(lane.positions)), lane.facts
        if (await connection.execute(_MOVE, (*places, *before))).rowcount != 1:
            raise UnderWay(service)
        for state, rows in new.items():
            async with connection.cursor().copy(copy_of(state)) as copy:
                await copy.write(lines(state, rows))
        async with connection.pipeline():
            for change in changes:
                await connection.execute(save(change.state), arrays(*change))
