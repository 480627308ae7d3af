"""The change-over: the fresh tables take the place of the live ones in one transaction, while orders flow.

1. Lock the lanes and the tables: no batch can commit. What is committed and not in the log yet is in the outbox.
   Autovacuum is kept out before that, while batches go on: who waits for it as short as batches may wait never gets in.
2. Fold the last facts, those of the outbox too: the fresh rows are then at the very point where the live lanes are.
3. Exchange the tables, raise every lane's epoch, note who did it, and end the workers' connections: in the same
   transaction. Workers take their lanes again at once, as after any lost connection, and find the fresh rows.

Of lanes that are behind their log (a database that was lost, or restored from a backup) positions, clock and what waits
are made from the log too (`owed`). The replaced tables stay in a schema of their own until somebody drops it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from pavane.operators import operations
from pavane.rebuild import backup, beside, standing
from pavane.rebuild.errors import CannotRebuild
from pavane.rebuild.owed import Owed, owed_of
from pavane.rebuild.rebuilding import Rebuild
from streams.kit.postgres import park
from streams.kit.service import Service

LOCK_TRIES = 60
BETWEEN_TRIES_SECONDS = 0.5
SWAP, FROM_LOG = "rebuild", "changed over; lanes made from the log: "
#: Whatever happens to this process, the lanes do not stand still for longer.
_CHANGING = "-c jit=off -c transaction_timeout=30s -c idle_in_transaction_session_timeout=30s"
#: PostgreSQL calls an autovacuum off when somebody has waited for it for its deadlock_timeout: a second, mostly.
_PATIENTLY: LiteralString = "SET LOCAL lock_timeout = '4s'"
_KEEP_OUT: LiteralString = "LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE"
_SHORTLY: LiteralString = "SET LOCAL lock_timeout = '500ms'"
_LOCK: LiteralString = "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE"
_ANALYZE: LiteralString = "ANALYZE {}"
_END_WORKERS: LiteralString = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND application_name = 'pavane-worker'"
)
_MAKE_LANE: LiteralString = (
    "INSERT INTO lanes (partition, partition_count, epoch, positions, clock) "
    "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (partition) DO UPDATE "
    "SET epoch = greatest(lanes.epoch + 1, excluded.epoch), positions = excluded.positions, clock = excluded.clock, "
    "acknowledged = CASE WHEN %s THEN lanes.outbox_row ELSE lanes.acknowledged END, halted = NULL"
)


class Swap:
    """One change-over of one service. Raises `CannotRebuild` and `NotAsked`: then nothing was changed."""

    def __init__(self, rebuild: Rebuild) -> None:
        self._rebuild = rebuild
        self._service = rebuild.service

    async def behind(self) -> dict[int, int]:
        """By how many facts the live lanes are behind what the log holds: those of an older database, or of none."""
        said = await asyncio.to_thread(self._rebuild.said)
        async with beside.connected(self._service.name, self._rebuild.url) as connection:
            live = await standing.look(connection)
        missing = {p: sequence - live.said(self._service, p) for p, sequence in said.items()}
        return {partition: facts for partition, facts in missing.items() if facts > 0}

    async def carry_out(self, who: str, why: str) -> list[str]:
        """Change over; what was done, in words."""
        owed = await self._owed()
        url, name = self._rebuild.url, self._service.name
        replaced = f"replaced_{datetime.now(UTC):%Y%m%dt%H%M%S}"
        async with beside.connected(name, url) as connection:
            for state in self._service.states:
                await connection.execute(sql.SQL(_ANALYZE).format(sql.Identifier(state.table)))
        async with beside.connected(name, url, _CHANGING) as connection:
            seconds = await self._patiently(connection, owed, replaced, operations.somebody(who), why)
        done = [f"Changed over. The lanes stood still for {seconds:.2f} s."]
        done += [f"Lane {partition}: {each.told()}" for partition, each in sorted(owed.items())]
        return [*done, f"The tables before are in the schema {replaced}: drop it when all is well."]

    async def _owed(self) -> dict[int, Owed]:
        """Of each lane that is behind its log: where it is to go on, and what it had heard and not handled."""
        async with beside.connected(self._service.name, self._rebuild.url) as connection:
            live, fresh = await standing.look(connection), await beside.lanes(connection)
            if self._service.is_projection:
                return {}
            lost = [p for p in fresh if p not in live.lanes or p in live.behind(self._service, fresh)]
            return {p: await owed_of(self._rebuild, connection, fresh[p]) for p in lost}

    async def _patiently(
        self, connection: beside.Connection, owed: Mapping[int, Owed], replaced: str, who: str, why: str
    ) -> float:
        """Try until nobody holds the tables for long; how many seconds the lanes stood still."""
        tables = ["lanes", *(state.table for state in self._service.states)]
        for _ in range(LOCK_TRIES):
            try:
                async with connection.transaction():
                    begun = await lock(connection, tables)
                    await self._change_over(connection, owed, replaced, who, why)
                return time.monotonic() - begun
            except psycopg.errors.LockNotAvailable:
                await asyncio.sleep(BETWEEN_TRIES_SECONDS)
        raise CannotRebuild(
            f"somebody holds a table of {self._service.name} for long (a backup, an audit, a vacuum by hand, a "
            f"forgotten transaction: see pg_stat_activity): nothing was changed. Try again when it has ended."
        )

    async def _change_over(
        self, connection: beside.Connection, owed: Mapping[int, Owed], replaced: str, who: str, why: str
    ) -> None:
        """With everything locked."""
        live = await standing.look(connection)
        fresh = await self._rebuild.to_the_end(connection, live)
        await self._judge(live, fresh, owed)
        schema = sql.Identifier(replaced)
        await connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        for state in self._service.states:
            table = state.table
            of_live, of_fresh = sql.Identifier(standing.LIVE, table), sql.Identifier(beside.SCHEMA, table)
            await connection.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(of_live, schema))
            await connection.execute(
                sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(of_fresh, sql.Identifier(standing.LIVE))
            )
        await self._move_lanes(connection, live, fresh, owed)
        await backup.give_back(connection)
        at = [f"{self._service.name}/{p}/{lane.facts}" for p, lane in fresh.items()]
        number = await operations.begin(connection, who, SWAP, at, f"tables before: schema {replaced}", why)
        await operations.end(connection, number, f"{FROM_LOG}{sorted(owed) or 'none'}")
        await beside.forget(connection)
        # While the tables are locked: whoever connects again waits, and then finds the fresh ones.
        await connection.execute(_END_WORKERS)

    async def _judge(
        self, live: standing.Standing, fresh: Mapping[int, beside.Lane], owed: Mapping[int, Owed]
    ) -> None:
        """Nothing may have happened that the fresh tables do not know. Raises `CannotRebuild`."""
        me = self._service.name
        if self._service.is_projection:
            async with beside.connected(me, self._rebuild.url) as connection:
                begun = await beside.begun(connection)
            live.expect_parked(self._service, begun)
            return
        for partition, lane in fresh.items():
            said, folded = live.said(self._service, partition), lane.clock.get(me, 0)
            if partition in owed and dict(lane.clock) != dict(owed[partition].of_clock):
                raise CannotRebuild(f"{me}, lane {partition}: an owner of before has said facts meanwhile: try again")
            if partition not in owed and said != folded:
                raise CannotRebuild(
                    f"{me}, lane {partition}: {said} facts were said and {folded} are in the log and the outbox: the "
                    f"log has lost some. Run 'pavane log restore {me} --reason ...'."
                )

    async def _move_lanes(
        self,
        connection: beside.Connection,
        live: standing.Standing,
        fresh: Mapping[int, beside.Lane],
        owed: Mapping[int, Owed],
    ) -> None:
        for partition, lane in fresh.items():
            if partition in owed or self._service.is_projection:
                at: beside.Lane | Owed = owed.get(partition, lane)
                # Of a lane that was lost the epochs are unknown: none was ever as high as the seconds since 1970.
                epoch = 1 if partition in live.lanes and partition not in owed else int(time.time())
                known = live.lanes[partition].clock if epoch == 1 else {}
                places = Jsonb(dict(at.positions)), Jsonb(clock_of(self._service, known, at.clock))
                # What the outbox of a lost lane holds is in the log, as far as anybody knows; a view's is still to say.
                values = partition, self._rebuild.partitions, epoch, *places, partition in owed
                await connection.execute(_MAKE_LANE, values)
            elif partition in live.lanes:
                await connection.execute(
                    "UPDATE lanes SET epoch = epoch + 1, halted = NULL WHERE partition = %s", (partition,)
                )
            if partition in owed:
                await connection.execute("DELETE FROM parked WHERE partition = %s", (partition,))
                await park(connection, partition, owed[partition].parked)


async def lock(connection: beside.Connection, tables: Sequence[str]) -> float:
    """Lock these live tables until the transaction ends; since when (`time.monotonic`) others wait.

    Raises `LockNotAvailable` when somebody holds one for long.
    """
    listed = sql.SQL(", ").join(sql.Identifier(standing.LIVE, table) for table in tables)
    await connection.execute(_PATIENTLY)
    await connection.execute(sql.SQL(_KEEP_OUT).format(listed))
    await connection.execute(_SHORTLY)
    begun = time.monotonic()
    await connection.execute(sql.SQL(_LOCK).format(listed))
    return begun


def clock_of(service: Service, live: Mapping[str, int], fresh: Mapping[str, int]) -> dict[str, int]:
    """The clock of a lane with fresh rows. Of what it hears it knows what they do: the rest it hears again. What a view
    has put aside it knows of itself alone: no topic that it hears tells of it."""
    return {**{who: known for who, known in live.items() if who not in service.topics}, **fresh}
