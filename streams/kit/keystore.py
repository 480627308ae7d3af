"""Where the keys of persons lie: a PostgreSQL database of their own, so that its backups can be kept shorter.

A row names no person: it is found by an HMAC, and its secret is wrapped with a master key. Of a destroyed key the row
stays, without secret and without the HMAC, so that "destroyed" and "never heard of" are not mistaken for one another.

    (none) ──make──▶ live ──close──▶ closing ──destroy──▶ destroyed
                       ▲                │ reopen, an order in plain text, or the time ends
                       └────────────────┘
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, LiteralString, NamedTuple, TypeAlias

import psycopg
from psycopg import AsyncConnection

from streams.kit.errors import PavaneError
from streams.kit.masters import Masters, Wrapped, index_of
from streams.kit.protection import DataKey

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]

#: Several processes may make the tables at once; CREATE TABLE IF NOT EXISTS alone may then fail.
_TABLES_LOCK = 0x7061_766B
_DDL = """
CREATE TABLE IF NOT EXISTS data_keys (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    person bytea,
    secret bytea,
    master text,
    asked_in_plain boolean NOT NULL DEFAULT false,
    made_at timestamptz NOT NULL DEFAULT now(),
    closing_until timestamptz,
    destroyed_at timestamptz,
    UNIQUE (tenant, person),
    CHECK (num_nulls(person, secret, master) = CASE WHEN destroyed_at IS NULL THEN 0 ELSE 3 END)
);
CREATE TABLE IF NOT EXISTS index_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), secret bytea NOT NULL, master text NOT NULL
);
"""
_INDEX = "the index of persons"
SWEEP_SECONDS = 30.0
BETWEEN_SWEEPS_SECONDS = 0.5


class Person(NamedTuple):
    """A customer of a tenant, by the tenant's own customer number."""

    tenant: str
    customer: str


class Kept(NamedTuple):
    """What an operator is shown of a key."""

    id: str
    made_at: datetime
    asked_in_plain: bool


class IndexLost(PavaneError):
    """There are keys of persons, and no index to find them by: one made now would give everybody a second key."""

    def __init__(self) -> None:
        super().__init__(
            "PAVANE_DATABASE_KEYS has keys and no row in index_key, by which they are found: restore all of its backup "
            "(docs/privacy.md, 'Where keys are')"
        )


class NotSwept(PavaneError):
    """What was destroyed lies in the table's file."""

    def __init__(self, who: str) -> None:
        super().__init__(
            f"the key is destroyed, but the row as it was, with the wrapped secret, lies in the file of data_keys, as "
            f"{who} looks at PAVANE_DATABASE_KEYS as it was before. When that has ended, 'pavane keys destroy-again' "
            f"takes it out"
        )


def make_tables(url: str) -> None:
    """Make what is missing in the database of keys."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_TABLES_LOCK])
        connection.execute(_DDL)


class KeyStore:
    """The statements, each for any number of keys at once. Raises what psycopg raises, `NoSuchMaster`, and `IndexLost`.
    """

    def __init__(self, masters: Masters) -> None:
        self._masters = masters

    # -- keys of persons ---------------------------------------------------------------------------------------------

    async def of(self, connection: Connection, persons: Collection[Person]) -> dict[Person, DataKey]:
        """The keys of those who have one."""
        by_index = await self._indexed(connection, persons)
        if not by_index:
            return {}
        cursor = await connection.execute(
            "SELECT id, tenant, person, secret, master, coalesce(closing_until > now(), false) FROM data_keys "
            "WHERE (tenant, person) IN (SELECT * FROM unnest(%s::text[], %s::bytea[]))",
            ([tenant for tenant, _ in by_index], [index for _, index in by_index]),
        )
        return {
            by_index[tenant, person]: self._key(name, secret, master, is_closing)
            for name, tenant, person, secret, master, is_closing in await cursor.fetchall()
        }

    async def make(self, connection: Connection, persons: Collection[Person]) -> dict[Person, DataKey]:
        """A key for each who has none; those that were made here. Whom somebody else was quicker for is missing."""
        by_index = await self._indexed(connection, persons, makes=True)
        # In one order everywhere, so that two who make keys for the same persons cannot wait for each other.
        made = {index: DataKey.new() for index in sorted(by_index)}
        wrapped = [self._masters.wrap(key.secret, key.id) for key in made.values()]
        cursor = await connection.execute(
            "INSERT INTO data_keys (tenant, person, id, master, secret) "
            "SELECT * FROM unnest(%s::text[], %s::bytea[], %s::text[], %s::text[], %s::bytea[]) "
            "ON CONFLICT DO NOTHING RETURNING tenant, person",
            (
                [tenant for tenant, _ in made],
                [index for _, index in made],
                [key.id for key in made.values()],
                [each.master for each in wrapped],
                [each.secret for each in wrapped],
            ),
        )
        return {by_index[tenant, person]: made[tenant, person] for tenant, person in await cursor.fetchall()}

    async def find(self, connection: Connection, ids: Iterable[str]) -> dict[str, DataKey | None]:
        """Keys by their ids: None for one that was destroyed, nothing for one that was never here."""
        cursor = await connection.execute("SELECT id, secret, master FROM data_keys WHERE id = ANY(%s)", (list(ids),))
        rows = await cursor.fetchall()
        return {name: None if secret is None else self._key(name, secret, master) for name, secret, master in rows}

    async def readable(self, connection: Connection, ids: Iterable[str]) -> set[str]:
        """Which of these are there and not destroyed. No master key is needed to say so."""
        cursor = await connection.execute(
            "SELECT id FROM data_keys WHERE id = ANY(%s) AND secret IS NOT NULL", (list(ids),)
        )
        return {name for (name,) in await cursor.fetchall()}

    async def destroyed(self, connection: Connection, ids: Iterable[str]) -> dict[str, datetime]:
        """Which of these are destroyed, and since when."""
        cursor = await connection.execute(
            "SELECT id, destroyed_at FROM data_keys WHERE id = ANY(%s) AND destroyed_at IS NOT NULL", (list(ids),)
        )
        return dict(await cursor.fetchall())

    async def note_plain(self, connection: Connection, ids: Collection[str]) -> None:
        """These persons also sent requests in plain text, which the log keeps."""
        await connection.execute(
            "UPDATE data_keys SET asked_in_plain = true WHERE id = ANY(%s) AND NOT asked_in_plain", (list(ids),)
        )

    # -- forgetting --------------------------------------------------------------------------------------------------

    async def kept(self, connection: Connection, person: Person) -> Kept | None:
        """What is kept of a person's key; None when there is none."""
        for tenant, index in await self._indexed(connection, [person]):
            cursor = await connection.execute(
                "SELECT id, made_at, asked_in_plain FROM data_keys WHERE tenant = %s AND person = %s", (tenant, index)
            )
            if row := await cursor.fetchone():
                return Kept(*row)
        return None

    async def close(self, connection: Connection, key: str, seconds: float) -> datetime | None:
        """For so long, nothing new is protected under it by who reads it from now on. Until when: by that, who closed
        it last finds it closed; None when it was destroyed."""
        cursor = await connection.execute(
            "UPDATE data_keys SET closing_until = now() + make_interval(secs => %s) "
            "WHERE id = %s AND destroyed_at IS NULL RETURNING closing_until",
            (seconds, key),
        )
        return _one(await cursor.fetchone())

    async def reopen(self, connection: Connection, key: str, closed: datetime | None) -> None:
        """Unless somebody else has closed it since."""
        await connection.execute(
            "UPDATE data_keys SET closing_until = NULL WHERE id = %s AND closing_until = %s", (key, closed)
        )

    async def reopen_all(self, connection: Connection, ids: Collection[str]) -> set[str]:
        """Whoever closed them; those that are not destroyed. Who is about to destroy one has to close it again."""
        cursor = await connection.execute(
            "UPDATE data_keys SET closing_until = NULL WHERE id = ANY(%s) AND destroyed_at IS NULL RETURNING id",
            (list(ids),),
        )
        return {name for (name,) in await cursor.fetchall()}

    async def destroy_closed(self, connection: Connection, key: str, closed: datetime | None) -> datetime | None:
        """As `destroy`, but only if it was closed all the time since `close` said so."""
        return await self._destroy(connection, "id = %s AND closing_until = %s AND closing_until > now()", key, closed)

    async def destroy(self, connection: Connection, key: str) -> datetime | None:
        """When this destroyed it; None when nothing was left to destroy. The old row lies in the table's file until
        `sweep`."""
        return await self._destroy(connection, "id = %s", key)

    async def _destroy(self, connection: Connection, which: LiteralString, *values: object) -> datetime | None:
        cursor = await connection.execute(
            "UPDATE data_keys SET person = NULL, secret = NULL, master = NULL, closing_until = NULL, "
            f"destroyed_at = now() WHERE {which} AND destroyed_at IS NULL RETURNING destroyed_at",
            values,
        )
        return _one(await cursor.fetchone())

    async def sweep(self, connection: Connection, patience_seconds: float = SWEEP_SECONDS) -> None:
        """Take what was destroyed out of the table's file, however long that takes. `connection` commits by itself.
        Raises `NotSwept` when somebody looks at the database as it was before, for longer than `patience_seconds`."""
        await connection.execute("SET statement_timeout = 0")
        [(now,)] = await (await connection.execute("SELECT pg_current_xact_id()::xid::text")).fetchall()
        deadline = time.monotonic() + patience_seconds
        while True:
            # Once all is frozen that can be, the table's oldest transaction tells how far VACUUM could go.
            await connection.execute("VACUUM (FREEZE, INDEX_CLEANUP ON) data_keys")
            cursor = await connection.execute(
                "SELECT age(relfrozenxid) <= age(%s::xid) FROM pg_class WHERE oid = 'data_keys'::regclass", (now,)
            )
            if await cursor.fetchone() == (True,):
                return
            if time.monotonic() > deadline:
                raise NotSwept(await _oldest_look(connection))
            await asyncio.sleep(BETWEEN_SWEEPS_SECONDS)

    # -- the master key ----------------------------------------------------------------------------------------------

    async def by_master(self, connection: Connection) -> Mapping[str, int]:
        """How many secrets each master key wraps."""
        cursor = await connection.execute(
            "SELECT master, count(*) FROM (SELECT master FROM data_keys WHERE secret IS NOT NULL UNION ALL "
            "SELECT master FROM index_key) s GROUP BY master ORDER BY master"
        )
        return dict(await cursor.fetchall())

    async def rewrap(self, connection: Connection, most: int) -> int:
        """Wrap up to so many secrets anew that another than the first master key wraps; how many those were."""
        async with connection.transaction():
            cursor = await connection.execute(
                "SELECT id, secret, master FROM data_keys WHERE master <> %s ORDER BY id LIMIT %s FOR UPDATE",
                (self._masters.first, most),
            )
            rows = await cursor.fetchall()
            for key, secret, master in rows:
                again = self._masters.wrap(self._masters.unwrap(Wrapped(master, secret), key), key)
                await connection.execute("UPDATE data_keys SET master = %s, secret = %s WHERE id = %s", (*again, key))
            return len(rows) or await self._rewrap_index(connection)

    async def _rewrap_index(self, connection: Connection) -> int:
        cursor = await connection.execute(
            "SELECT secret, master FROM index_key WHERE master <> %s FOR UPDATE", (self._masters.first,)
        )
        rows = await cursor.fetchall()
        for secret, master in rows:
            again = self._masters.wrap(self._masters.unwrap(Wrapped(master, secret), _INDEX), _INDEX)
            await connection.execute("UPDATE index_key SET master = %s, secret = %s", again)
        return len(rows)

    # -- how they are found and opened -------------------------------------------------------------------------------

    def _key(self, name: str, secret: bytes, master: str, is_closing: bool = False) -> DataKey:
        return DataKey(name, self._masters.unwrap(Wrapped(master, secret), name), is_closing)

    async def _indexed(
        self, connection: Connection, persons: Collection[Person], *, makes: bool = False
    ) -> dict[tuple[str, bytes], Person]:
        """Persons as they are found; none while there is no index, unless `makes`."""
        key = await self._index(connection)
        if key is None and makes:
            await self._make_index(connection)
            key = await self._index(connection)
        if key is None:
            return {}
        return {(person.tenant, index_of(key, *person)): person for person in persons}

    async def _index(self, connection: Connection) -> bytes | None:
        """Read with each question: under the index of a database that was made anew since, everybody would get a second
        key, and nobody would find the first. None where nobody has a key yet."""
        cursor = await connection.execute(
            "SELECT master, secret FROM index_key UNION ALL SELECT NULL, NULL "
            "WHERE NOT EXISTS (SELECT FROM index_key) AND EXISTS (SELECT FROM data_keys WHERE person IS NOT NULL)"
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        if row[0] is None:
            raise IndexLost
        return self._masters.unwrap(Wrapped(*row), _INDEX)

    async def _make_index(self, connection: Connection) -> None:
        """With the first key, and never beside keys that were found by another."""
        wrapped = self._masters.wrap(DataKey.new().secret, _INDEX)
        await connection.execute(
            "INSERT INTO index_key (master, secret) SELECT %s, %s "
            "WHERE NOT EXISTS (SELECT FROM data_keys WHERE person IS NOT NULL) ON CONFLICT DO NOTHING",
            wrapped,
        )


def _one(row: tuple[Any, ...] | None) -> datetime | None:
    return None if row is None else row[0]


async def _oldest_look(connection: Connection) -> str:
    """Who has the oldest snapshot of this database."""
    cursor = await connection.execute(
        "SELECT coalesce(nullif(application_name, ''), 'a session'), usename, pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid() "
        "ORDER BY age(backend_xmin) DESC LIMIT 1"
    )
    row = await cursor.fetchone()
    return "a replication slot or a prepared transaction" if row is None else "{} of {} (process {})".format(*row)
