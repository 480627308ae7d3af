"""What an operator's command can reach: services' databases, the log, the registry, and the code of today."""

import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import psycopg
from psycopg import AsyncConnection, IsolationLevel

from infra.addresses import KAFKA, REGISTRY, database_variable
from infra.stack import KEYS_DATABASE
from pavane.operators.errors import DatabaseUnreadable, NotAsked
from pavane.running import databases, environment_of
from streams.kit import logs, run
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry
from streams.kit.service import Service
from streams.kit.writers import Registry

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 60

Connection: TypeAlias = AsyncConnection[tuple[Any, ...]]


class Reach(NamedTuple):
    """`databases`: URL by service. `find`: the service of a name, as the code has it now. `keys`: the URL of the keys
    of persons, where it is known."""

    databases: Mapping[str, str]
    kafka: str
    registry: Registry
    language: Language
    find: Callable[[str], Service] = run.find
    keys: str = ""

    @classmethod
    def at(cls, data: Path) -> "Reach":
        """What the PAVANE_* variables name, or else what runs on the folder. Raises `NothingRuns`, `SettingWrong`."""
        # What libraries complain about is said in this command's own words.
        logs.set_up("pavane", os.environ.get("PAVANE_LOG_LEVEL", "error"))
        environment = environment_of(data)
        registry = ConfluentRegistry(environment.get(REGISTRY) or "http://127.0.0.1:0")
        keys = environment.get(database_variable(KEYS_DATABASE), "")
        return cls(databases(data), environment.get(KAFKA, ""), registry, Language.load(), keys=keys)

    def services(self, wanted: Collection[str] = ()) -> list[str]:
        """The names asked for, or all. Raises `NotAsked` for one that there is not."""
        if unknown := [name for name in wanted if name not in self.databases]:
            raise NotAsked(f"there is no service {unknown[0]!r}; there are {', '.join(self.databases)}")
        return [name for name in self.databases if not wanted or name in wanted]

    @asynccontextmanager
    async def database(self, service: str, *, reading: bool = False) -> AsyncIterator[Connection]:
        """A connection that commits each statement; `reading`: one transaction that sees a single moment and cannot
        change anything. Raises `DatabaseUnreadable`."""
        try:
            connection = await AsyncConnection.connect(
                self.databases[service],
                autocommit=not reading,
                connect_timeout=CONNECT_TIMEOUT_SECONDS,
                options=f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s",
                application_name="pavane-operator",
            )
            async with connection:
                if reading:
                    await connection.set_read_only(True)
                    await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
                yield connection
        except psycopg.Error as error:
            raise DatabaseUnreadable(service, database_variable(service), error) from error
