"""A simulated outside world that keeps its promises: every question and answer is recorded durably, under its key.

A simulator is a row type, the SQL of its two tables, and a pure function `row, effect, time -> row, answer`. A whole
round of effects is one transaction of three statements. The database is the outside world's own: it outlives a service
that crashed or was rebuilt, and the audit counts in it what really happened.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from streams.kit.errors import WorldUnavailable, WrongSetting
from streams.kit.events import Answer, Effect

CONNECTION_SECONDS = 5.0
ROUND_SECONDS = 30.0
DATABASE = "PAVANE_DATABASE_WORLD"
LATENCY = "PAVANE_SIMULATOR_LATENCY_MS"
#: Several simulators start at once in one database; CREATE TABLE IF NOT EXISTS alone may then fail.
_TABLES_LOCK = 0x7061_7661

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulated party knows under one key. Fields added by a simulator have defaults: nothing happened yet."""

    key: str
    order_id: str
    calls: int = 0


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One question: which effect, which answer, and whether it changed anything (a repeated question does not)."""

    key: str
    verb: str
    outcome: str
    changed: bool
    at: datetime


R = TypeVar("R", bound=Record)


class Script(NamedTuple, Generic[R]):
    """What is particular to one simulator. `ddl` makes its `table` (of `record`) and `calls` (of `Call`) if missing."""

    record: type[R]
    table: str
    calls: str
    ddl: str
    answer: Callable[[R, Any, datetime], tuple[R, Answer]]


class SimulatedWorld(Generic[R]):
    """A `World` that plays a `Script`. Any number of callers may ask at once, also under equal keys."""

    def __init__(self, script: Script[R], pool: AsyncConnectionPool[Connection], latency_ms: int = 0) -> None:
        self._script = script
        self._pool = pool
        self._latency_seconds = latency_ms / 1000
        self._take, self._save, self._note = _statements(script)

    @classmethod
    @asynccontextmanager
    async def playing(
        cls,
        script: Script[R],
        environment: Mapping[str, str] = os.environ,
        connection_seconds: float = CONNECTION_SECONDS,
    ) -> "AsyncIterator[SimulatedWorld[R]]":
        """Connect to the database that `PAVANE_DATABASE_WORLD` names; it may be away and come later."""
        url, latency_ms = _settings(environment)

        async def configure(connection: Connection) -> None:
            await connection.execute(f"SET statement_timeout = '{ROUND_SECONDS}s'".encode())
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_TABLES_LOCK])
                await connection.execute(script.ddl.encode())

        pool = AsyncConnectionPool[Connection](
            url,
            min_size=1,
            max_size=4,
            timeout=connection_seconds,
            kwargs={"autocommit": True},
            configure=configure,
            check=AsyncConnectionPool.check_connection,
            open=False,
            name=script.table,
        )
        await pool.open(wait=False)
        try:
            yield cls(script, pool, latency_ms)
        finally:
            await pool.close()

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        """Answer all effects, in their order, or none: `WorldUnavailable` when the database is away."""
        if not effects:
            return ()
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        try:
            # The pool rolls back what was begun and not committed.
            async with asyncio.timeout(ROUND_SECONDS), self._pool.connection() as connection:
                return await self._round(connection, effects)
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
            raise WorldUnavailable(f"{DATABASE}, which holds {self._script.table}, does not answer: {error}") from error

    async def _round(self, connection: Connection, effects: Sequence[Effect]) -> Sequence[Answer]:
        """One transaction in two round trips: take the rows, then save them, note the calls and commit."""
        at = datetime.now(UTC)
        before = await self._taken(connection, effects)
        after = dict(before)
        answers: list[Answer] = []
        calls: list[Call] = []
        for effect in effects:
            known = after[effect.key]
            after[effect.key], answer = self._script.answer(known, effect, at)
            answers.append(answer)
            calls.append(
                Call(
                    key=effect.key,
                    verb=type(effect).__name__,
                    outcome=type(answer).__name__,
                    changed=after[effect.key] != known,
                    at=at,
                )
            )
        changed = [record for key, record in after.items() if record != before[key]]
        async with connection.pipeline():
            if changed:
                await connection.execute(self._save, [_json(changed)])
            await connection.execute(self._note, [_json(calls)])
            await connection.execute("COMMIT")
        return answers

    async def _taken(self, connection: Connection, effects: Sequence[Effect]) -> dict[str, R]:
        """The locked rows of all keys asked about, made where there were none."""
        asked = Counter(effect.key for effect in effects)
        orders = {effect.key: getattr(effect, "order_id", "") for effect in effects}
        new = [self._script.record(key=key, order_id=orders[key], calls=calls) for key, calls in asked.items()]
        async with connection.pipeline():
            await connection.execute("BEGIN")
            cursor = await connection.execute(self._take, [_json(new)])
        rows = f"[{','.join(row for (row,) in await cursor.fetchall())}]"
        return {record.key: record for record in msgspec.json.decode(rows, type=list[self._script.record])}  # type: ignore[name-defined]


def _statements(script: Script[Any]) -> tuple[bytes, bytes, bytes]:
    """Take rows, save rows, note calls: each one statement for a whole round."""
    table, calls = script.table, script.calls
    columns = [name for name in script.record.__struct_fields__ if name != "key"]
    # Locks and fetches in one statement and in key order: two rounds with keys in common cannot deadlock.
    take = (
        f"INSERT INTO {table} AS known SELECT * FROM json_populate_recordset(null::{table}, %s) ORDER BY key "
        f"ON CONFLICT (key) DO UPDATE SET calls = known.calls + excluded.calls RETURNING to_json(known)::text"
    )
    save = (
        f"UPDATE {table} AS known SET {', '.join(f'{name} = said.{name}' for name in columns)} "
        f"FROM json_populate_recordset(null::{table}, %s) AS said WHERE known.key = said.key"
    )
    noted = ", ".join(Call.__struct_fields__)
    note = f"INSERT INTO {calls} ({noted}) SELECT {noted} FROM json_populate_recordset(null::{calls}, %s)"
    return take.encode(), save.encode(), note.encode()


def _json(rows: Sequence[msgspec.Struct]) -> str:
    return msgspec.json.encode(rows).decode()


def _settings(environment: Mapping[str, str]) -> tuple[str, int]:
    url, latency = environment.get(DATABASE, ""), environment.get(LATENCY) or "0"
    if not url.startswith(("postgres://", "postgresql://")):
        raise WrongSetting(f"{DATABASE} (PostgreSQL URL of the simulated outside world's records): is not set")
    if not latency.isdecimal():
        raise WrongSetting(f"{LATENCY} (milliseconds that a simulated answer takes): a whole number, not {latency!r}")
    return url, int(latency)
