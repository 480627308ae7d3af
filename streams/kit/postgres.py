"""The store on PostgreSQL: one connection, one round trip to load what is not in memory, one to commit.

Rows are read as one JSON document a table and written as one array a column (`columns`): no value is adapted one by
one. Sequential scans are off for the worker's connection: its statements always name keys, and plans
that were made while a table was small would stay.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, cast

import msgspec
import psycopg
from psycopg import AsyncConnection, sql
from psycopg.errors import ProgramLimitExceeded

from streams.kit.counting import REMEMBERED
from streams.kit.envelope import Envelope
from streams.kit.errors import PartitionsChanged, StaleEpoch
from streams.kit.events import State
from streams.kit.faultpoints import awaited, reached
from streams.kit.lane import Draft, Holding
from streams.kit.log import Record, ToSay
from streams.kit.parking import LONGEST_RETRY_AFTER_SECONDS, LONGEST_RETRY_SECONDS, Parked
from streams.kit.pool import KEEPALIVES, hang_up
from streams.kit.rows import Changes, Wanted
from streams.kit.statements import everything, select
from streams.kit.store import BatchRefused, DatabaseAway, DatabaseLost, Deadlocked, Found, Move

STALE_EPOCH = "PV001"
LONGEST_WAIT = timedelta(seconds=LONGEST_RETRY_AFTER_SECONDS + LONGEST_RETRY_SECONDS)
GIVEN_UP = "give up"
"""An operation: somebody has accepted that the log lacks facts, up to the last one of `service/partition/sequence`."""
_ACKNOWLEDGED = (
    "unnest(%s::int[], %s::bigint[]) AS a (partition, number) "
    "WHERE o.partition = a.partition AND o.number <= a.number AND o.said_at < %s"
)
_FORGET = f"DELETE FROM outbox o USING {_ACKNOWLEDGED}"
_TO_FORGET = f"SELECT FROM outbox o, {_ACKNOWLEDGED}"
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist')
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 30
ANSWER_LATE_SECONDS = 5.0
"""So much longer than the server itself allows a transaction is its answer waited for."""


class PostgresStore:
    """One service's database. `transaction_seconds`: shorter than the group's session, so that an owner that froze
    inside its transaction cannot hold up its successor."""

    def __init__(self, url: str, transaction_seconds: float, service: str = "SERVICE") -> None:
        self._service = service
        milliseconds = int(transaction_seconds * 1000)
        self._url = url
        self._patience_seconds = transaction_seconds + ANSWER_LATE_SECONDS
        self._options = (
            f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c transaction_timeout={milliseconds} "
            f"-c idle_in_transaction_session_timeout={milliseconds} -c enable_seqscan=off -c jit=off"
        )
        self._connection: AsyncConnection[tuple[Any, ...]] | None = None

    async def lane_count(self) -> int | None:
        async with self._connected() as connection:
            cursor = await connection.execute(REMEMBERED)
            [count] = cast("tuple[int | None]", await cursor.fetchone())
        return count

    async def take_over(
        self, partition: int, partition_count: int
    ) -> tuple[Holding, Sequence[tuple[int, list[ToSay]]]]:
        async with self._connected() as connection, connection.transaction():
            # Raise first, read second. The other way round, an owner that froze after our read could still commit a
            # batch, and we would hear that batch again with a clock that does not know it.
            cursor = await connection.execute(
                "INSERT INTO lanes (partition, partition_count, epoch) VALUES (%s, %s, 1) "
                "ON CONFLICT (partition) DO UPDATE SET epoch = lanes.epoch + 1, halted = NULL "
                "RETURNING epoch, positions, clock, outbox_row, acknowledged, partition_count",
                (partition, partition_count),
            )
            *known, before = cast("tuple[Any, ...]", await cursor.fetchone())
            if before != partition_count:
                raise PartitionsChanged("what is heard", before, partition_count)
            cursor = await connection.execute(
                "SELECT coalesce(json_object_agg(key, n) FILTER (WHERE n > 0), '{}'), coalesce(max(last), 0) FROM "
                "(SELECT key, count(*) FILTER (WHERE holds) AS n, max(number) AS last FROM parked WHERE partition = %s "
                "GROUP BY key) k",
                (partition,),
            )
            held, parked = cast("tuple[Any, ...]", await cursor.fetchone())
            holding = Holding(*known)._replace(held=held, parked=parked)
            cursor = await connection.execute(
                "SELECT number, facts FROM outbox WHERE partition = %s AND number > %s ORDER BY number",
                (partition, holding.acknowledged),
            )
            rows = [(number, _facts.decode(facts)) async for number, facts in cursor]
        return holding, rows

    async def load(self, wanted: Wanted) -> Found:
        async with self._connected() as connection:
            return await _load(connection, wanted)

    async def due(
        self, state: type[State], partitions: Collection[int], now: datetime, limit: int, without: Collection[str] = ()
    ) -> Sequence[State]:
        query = sql.SQL(
            "SELECT coalesce(json_agg(r), '[]')::text FROM (SELECT * FROM {} WHERE partition = ANY(%s) "
            "AND due_at <= %s AND NOT {} = ANY(%s::text[]) ORDER BY due_at LIMIT %s) r"
        ).format(sql.Identifier(state.table), sql.Identifier(state.key))
        async with self._connected() as connection:
            cursor = await connection.execute(query, (list(partitions), now, list(without), limit))
            [found] = cast("tuple[str]", await cursor.fetchone())
        return msgspec.json.decode(found, type=list[state], strict=False)  # type: ignore[valid-type]

    async def to_retry(self, partitions: Collection[int], now: datetime, limit: int) -> Sequence[tuple[int, Parked]]:
        async with self._connected() as connection:
            cursor = await connection.execute(
                "SELECT partition, number, key, holds, delivery, reason, message, attempts, retry_at FROM parked p "
                # One that is dated further ahead than any was ever set is of a clock that was wrong then.
                "WHERE partition = ANY(%s) AND (retry_at <= %s OR retry_at > %s) "
                # What waits is not tried, unless it calls off what is before it.
                "AND NOT EXISTS (SELECT FROM parked o WHERE (o.partition, o.key) = (p.partition, p.key) "
                "AND p.holds AND o.holds AND o.number > p.number AND o.retry_at IS NOT NULL) "
                "ORDER BY retry_at, number LIMIT %s",
                (list(partitions), now, now + LONGEST_WAIT, limit),
            )
            rows = await cursor.fetchall()
        return [
            (partition, Parked(number, key, holds, *_delivery.decode(delivery), *rest))
            for partition, number, key, holds, delivery, *rest in rows
        ]

    @asynccontextmanager
    async def transaction(self, drafts: Sequence[Draft]) -> AsyncIterator["PostgresTransaction"]:
        async with self._connected() as connection:
            transaction = PostgresTransaction(connection, drafts)
            try:
                yield transaction
            finally:
                await transaction.end()

    async def acknowledge(self, rows: Mapping[int, tuple[int, int]]) -> None:
        async with self._connected() as connection:
            await connection.execute(
                "UPDATE lanes l SET acknowledged = a.number "
                "FROM unnest(%s::int[], %s::bigint[], %s::bigint[]) AS a (partition, epoch, number) "
                "WHERE l.partition = a.partition AND l.epoch = a.epoch AND l.acknowledged < a.number",
                (list(rows), [epoch for epoch, _ in rows.values()], [number for _, number in rows.values()]),
            )

    async def note_halted(self, partition: int, epoch: int | None, reason: str) -> None:
        async with self._connected() as connection:
            await connection.execute(
                "UPDATE lanes SET halted = %s WHERE partition = %s AND epoch = coalesce(%s, epoch)",
                (_storable(reason), partition, epoch),
            )

    async def epochs(self, partitions: Collection[int]) -> Mapping[int, int]:
        async with self._connected() as connection:
            cursor = await connection.execute(
                "SELECT partition, epoch FROM lanes WHERE partition = ANY(%s)", (list(partitions),)
            )
            return dict(await cursor.fetchall())

    async def given_up(self, partition: int) -> int:
        async with self._connected() as connection:
            cursor = await connection.execute(
                "SELECT coalesce(max(split_part(item, '/', 3)::bigint), 0) FROM operations, "
                "jsonb_array_elements_text(items) item WHERE what = %s AND split_part(item, '/', 2) = %s",
                (GIVEN_UP, str(partition)),
            )
            [last] = cast("tuple[int]", await cursor.fetchone())
            return last

    async def decided(self, topic: str, service: str, partition: int) -> int:
        async with self._connected() as connection:
            cursor = await connection.execute(
                "SELECT coalesce(max(split_part(said, '/', 3)::bigint), 0) FROM operations, "
                "jsonb_array_elements_text(items) said WHERE starts_with(said, %s) AND EXISTS "
                "(SELECT FROM jsonb_array_elements_text(items) item WHERE starts_with(item, %s))",
                (f"{service}/{partition}/", f"{topic}/{partition}/"),
            )
            [last] = cast("tuple[int]", await cursor.fetchone())
            return last

    async def forget_said(self, rows: Mapping[int, int], before: datetime) -> int:
        wanted = list(rows), list(rows.values()), before
        async with self._connected() as connection:
            if awaited("before-forget") and (await connection.execute(_TO_FORGET, wanted)).rowcount:
                reached("before-forget")
            cursor = await connection.execute(_FORGET, wanted)
            if cursor.rowcount:
                reached("after-forget")
            return cursor.rowcount

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
        """The connection, opened when there is none. Errors of the database become the kit's; then it is reopened."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await AsyncConnection.connect(
                    self._url,
                    autocommit=True,
                    options=self._options,
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    **KEEPALIVES,
                    application_name="pavane-worker",
                )
            # A server that stands still keeps the connection alive, and none of its own timeouts.
            overdue = asyncio.get_running_loop().call_later(self._patience_seconds, hang_up, self._connection)
            try:
                yield self._connection
            finally:
                overdue.cancel()
        except psycopg.Error as error:
            if error.sqlstate == STALE_EPOCH:
                raise StaleEpoch(frozenset(map(int, (error.diag.message_detail or "").split(",")))) from None
            if isinstance(error, psycopg.DataError | psycopg.IntegrityError | ProgramLimitExceeded):
                raise BatchRefused(str(error).strip()) from error
            if isinstance(error, psycopg.errors.DeadlockDetected):
                raise Deadlocked(str(error).strip()) from error
            with contextlib.suppress(psycopg.Error):
                await self.close()
            if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedFunction):
                raise DatabaseLost(self._service, str(error).strip().splitlines()[0]) from error
            if found := _NO_DATABASE.search(str(error)):
                raise DatabaseLost(self._service, found[0]) from error
            raise DatabaseAway(f"the database does not answer: {str(error).strip()}") from error


class PostgresTransaction:
    """One batch's transaction. It begins, with the lanes' locks, in the round trip of the first load or commit."""

    def __init__(self, connection: AsyncConnection[tuple[Any, ...]], drafts: Sequence[Draft]) -> None:
        self._connection = connection
        self._held = msgspec.json.encode([{"partition": d.lane.partition, "epoch": d.lane.epoch} for d in drafts])
        self._open = False

    async def load(self, wanted: Wanted) -> Found:
        if self._open:
            return await _load(self._connection, wanted)
        self._open = True
        begin = ("BEGIN", None), ("SELECT move_lanes(%s)", (self._held.decode(),))
        return await _load(self._connection, wanted, *begin)

    async def commit(self, moves: Sequence[Move], changes: Sequence[Changes]) -> None:
        parking = [move.draft for move in moves if not move.draft.parking.is_empty]
        if not self._open and not parking:
            # One statement is a transaction of its own.
            reached("before-commit")
            await self._connection.execute(*everything(moves, changes))
        else:
            async with self._connection.pipeline():
                if not self._open:
                    self._open = True
                    await self._connection.execute("BEGIN")
                await self._connection.execute(*everything(moves, changes))
                for draft in parking:
                    await self._park(draft)
                reached("before-commit")
                await self._connection.execute("COMMIT")
        self._open = False
        reached("after-commit")

    async def _park(self, draft: Draft) -> None:
        """Parked records in and out. The next one of a key that its head holds no more may be tried at once."""
        parking, partition = draft.parking, draft.lane.partition
        if parking.added:
            await park(self._connection, partition, parking.added)
        for each in parking.tried:
            await self._connection.execute(
                "UPDATE parked SET reason = %s, message = %s, attempts = %s, retry_at = %s, holds = %s "
                "WHERE partition = %s AND number = %s",
                (
                    each.reason, _storable(each.message), each.attempts, each.retry_at, each.holds,
                    partition, each.number,
                ),
            )
        if parking.released:
            await self._connection.execute(
                "DELETE FROM parked WHERE partition = %s AND number = ANY(%s)",
                (partition, [each.number for each in parking.released]),
            )
        if parking.freed:
            await self._connection.execute(
                "UPDATE parked p SET retry_at = to_timestamp(0) FROM (SELECT min(number) AS number FROM parked "
                "WHERE partition = %s AND holds AND key = ANY(%s) GROUP BY key) head "
                "WHERE p.partition = %s AND p.number = head.number",
                (partition, [_storable(key) for key in parking.freed], partition),
            )

    async def end(self) -> None:
        """Roll back what was not committed."""
        if self._open and not self._connection.closed:
            self._open = False
            await self._connection.rollback()


_facts = msgspec.msgpack.Decoder(list[ToSay])
_facts_encoder = msgspec.msgpack.Encoder()
_delivery = msgspec.msgpack.Decoder(tuple[Record, Envelope])


async def park(connection: AsyncConnection[tuple[Any, ...]], partition: int, added: Sequence[Parked]) -> None:
    """Write parked records down."""
    documents = msgspec.json.encode([_parked_row(partition, each) for each in added]).decode()
    await connection.execute(
        "INSERT INTO parked SELECT * FROM json_populate_recordset(null::parked, %s)", (documents,)
    )


def _parked_row(partition: int, parked: Parked) -> dict[str, Any]:
    record = parked.record
    return {
        "partition": partition,
        "number": parked.number,
        "key": _storable(parked.key),
        "holds": parked.holds,
        "topic": record.topic,
        "log_offset": record.offset,
        "reason": parked.reason,
        "message": _storable(parked.message),
        "attempts": parked.attempts,
        "parked_at": datetime.now(UTC),
        "retry_at": parked.retry_at,
        "delivery": "\\x" + _facts_encoder.encode((record, parked.envelope)).hex(),
    }


def _storable(text: str) -> str:
    """Text that PostgreSQL takes, whatever a stranger put into it."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


async def _load(
    connection: AsyncConnection[tuple[Any, ...]], wanted: Wanted, *first: tuple[LiteralString, Any]
) -> dict[type[State], Sequence[State]]:
    """Run the statements of `first` and one statement a table, in one round trip."""
    cursors = []
    async with connection.pipeline():
        for statement, parameters in first:
            await connection.execute(statement, parameters)
        for state, keys in wanted.items():
            cursors.append((state, await connection.execute(select(state), (sorted(keys),))))
    found: dict[type[State], Sequence[State]] = {}
    for state, cursor in cursors:
        [text] = cast("tuple[str]", await cursor.fetchone())
        found[state] = msgspec.json.decode(text, type=list[state], strict=False)  # type: ignore[valid-type]
    return found
