"""A backup as the beginning of a rebuild: its rows, and in each lane the facts that came after it.

A backup is a database of the service as it was, restored beside the live one by whatever means (`pg_restore`, a file
system's snapshot, point-in-time recovery): at one moment its rows were the fold of the facts that its lanes know.

What operators did (receipts of who was forgotten, what was given up or skipped) is in no log: those operations of the
backup that the live database lacks are given back to it with the change-over.

The limits: rows are taken as they are, so their folds must not have changed since. A backup that knows facts which the
log has lost is refused: it is what can say them again.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import LiteralString

from psycopg import IsolationLevel, sql

from pavane.rebuild import beside, placing, standing
from pavane.rebuild.copying import copied
from pavane.rebuild.errors import CannotRebuild
from pavane.rebuild.standing import Standing
from pavane.rebuild.stretches import Origin
from streams.kit.events import State
from streams.kit.service import Service

BACKUP = "--from-backup"
_COLUMNS: LiteralString = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0"
#: In the schema of the fresh tables, until the change-over.
_KEPT = "operations_of_backup"
_DONE: LiteralString = "begun_at, ended_at, who, what, items, subject, why, outcome"
_KEEP: LiteralString = "CREATE TABLE {} (LIKE {})"
_HOLD: LiteralString = "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE"
#: By the numbers that they had, where there are no others yet.
_GIVE_BACK: LiteralString = (
    "INSERT INTO {live} (number, {done}) OVERRIDING SYSTEM VALUE "
    "SELECT number + (SELECT coalesce(max(number), 0) FROM {live}), {done} FROM {kept} k "
    "WHERE NOT EXISTS (SELECT FROM {live} o WHERE (o.begun_at, o.what, o.items) = (k.begun_at, k.what, k.items))"
)
_NUMBER_ON: LiteralString = "SELECT setval(pg_get_serial_sequence(%s, 'number'), max(number)) FROM {}"


def digest(url: str) -> str:
    """By which a backup is known again: a digest, since addresses hold passwords."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


async def take(
    service: Service, url: str, into: beside.Connection, parked: frozenset[Origin], said: Mapping[int, int], kafka: str
) -> None:
    """Copy the backup's rows into the fresh tables that `into` sees, and have each lane go on where it was.

    `parked`: the records without which a view is made. `said`: the last sequence of each lane that the log (at `kafka`)
    has. All of it happens in the transaction of `into`. Raises `CannotRebuild`, `DatabaseUnreadable`.
    """
    async with beside.connected(service.name, url, "-c jit=off", BACKUP) as backup:
        await backup.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await backup.set_read_only(True)
        async with backup.transaction():
            found = await standing.look(backup)
            _judge(service, found, parked, said)
            for state in service.states:
                await _copy(service, state, backup, into)
            await _keep_operations(backup, into)
            read_from = await asyncio.to_thread(placing.positions_of, service, found.lanes, kafka)
            for lane in found.lanes.values():
                await beside.place(into, lane.partition, read_from[lane.partition], lane.clock)


async def give_back(connection: beside.Connection) -> None:
    """What operators did by the backup, if the rebuild began with one: to the live operations, where they lack it.

    In the transaction of the change-over, before the fresh tables' schema is dropped.
    """
    live, kept = sql.Identifier(standing.LIVE, "operations"), sql.Identifier(beside.SCHEMA, _KEPT)
    cursor = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{beside.SCHEMA}.{_KEPT}",))
    if not (await cursor.fetchone() or (False,))[0]:
        return
    await connection.execute(sql.SQL(_HOLD).format(live))
    await connection.execute(sql.SQL(_GIVE_BACK).format(live=live, kept=kept, done=sql.SQL(_DONE)))
    await connection.execute(sql.SQL(_NUMBER_ON).format(live), (f"{standing.LIVE}.operations",))


def _judge(service: Service, found: Standing, parked: frozenset[Origin], said: Mapping[int, int]) -> None:
    name = service.name
    if not found.lanes:
        raise CannotRebuild(f"{BACKUP}: that database holds no lanes of {name}")
    if service.is_projection and found.parked != parked:
        raise CannotRebuild(f"{BACKUP}: {name} had put aside other records then: rebuild it from the log alone")
    for partition in found.lanes:
        known = found.said(service, partition)
        if partition not in said and not service.is_projection:
            raise CannotRebuild(f"{BACKUP}: {name} had a lane {partition} then, and its topic has none")
        if known > said.get(partition, known):
            raise CannotRebuild(
                f"{BACKUP}: in lane {partition} the backup knows {known:,} facts of {name}, and the log has "
                f"{said[partition]:,}: the backup is ahead. Put it in place of the live database as it is: its outbox "
                f"says the rest, and 'pavane log restore {name} --reason ...' what it cannot."
            )


async def _copy(service: Service, state: type[State], backup: beside.Connection, into: beside.Connection) -> None:
    table = f"{standing.LIVE}.{state.table}"
    cursor = await backup.execute(_COLUMNS, (table,))
    columns = {name for (name,) in await cursor.fetchall()}
    if missing := [name for name in state.__struct_fields__ if name not in columns]:
        raise CannotRebuild(
            f"{BACKUP}: {state.table} has no {', '.join(missing)} there: bring the backup to the tables of this code "
            f"('pavane migrate', with the variable of {service.name} naming it)"
        )
    await _stream(backup, copied(state, sql.Identifier(standing.LIVE, state.table)), into, copied(state))


async def _keep_operations(backup: beside.Connection, into: beside.Connection) -> None:
    live, kept = sql.Identifier(standing.LIVE, "operations"), sql.Identifier(beside.SCHEMA, _KEPT)
    columns = sql.SQL("(number, {})").format(sql.SQL(_DONE))
    await into.execute(sql.SQL(_KEEP).format(kept, sql.Identifier(beside.SCHEMA, "operations")))
    await _stream(backup, sql.SQL("{} {}").format(live, columns), into, sql.SQL("{} {}").format(kept, columns))


async def _stream(
    backup: beside.Connection, out: sql.Composable, into: beside.Connection, takes: sql.Composable
) -> None:
    async with (
        backup.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(out)) as source,
        into.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(takes)) as target,
    ):
        async for block in source:
            await target.write(block)
