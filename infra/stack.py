"""The whole stack in one data folder: Kafka, Apicurio Registry, PostgreSQL and Valkey, on 127.0.0.1 and free ports.

    async with Stack(Path("data")) as stack:
        print(stack.addresses.kafka_bootstrap)

Servers that the environment names (`infra.addresses`) are used instead of embedded ones. Whatever happens to this
process, nothing stays running (`infra.processes`). The same folder gives the same data at the next start, on other
ports.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import psycopg

from infra import archives, jars, topics
from infra.addresses import MASTER_KEYS, Addresses, External
from infra.apicurio import Apicurio
from infra.databases import make_databases
from infra.datafolder import DataFolder
from infra.errors import SettingWrong
from infra.kafka import Kafka, kafka_nodes
from infra.postgres import Postgres
from infra.server import Server, first_error, start_together
from infra.valkey import Valkey

REGISTRY_DATABASE = "registry"
WORLD_DATABASE = "world"
KEYS_DATABASE = "keys"
#: One a service of topics.yaml, one for the keys of persons, for the simulated outside world, and for the registry.
DATABASES = (
    *dict.fromkeys(topic.service for topic in topics.load()), KEYS_DATABASE, WORLD_DATABASE, REGISTRY_DATABASE
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part that is ready, for the table shown to the user."""

    name: str
    #: "external" for a server of the user's own.
    version: str
    #: Without secrets.
    address: str
    #: How long its start took.
    seconds: float


OnReady = Callable[[Part], None]


class Stack:
    """All parts of one data folder, started and stopped together; each can be killed, frozen and started again alone.

    `start` raises an `InfraError` and leaves nothing running when any part does not come up. `brokers` is 1 or 3 and
    must stay the same for a folder. `afresh`: what an earlier stack left in the folder is removed. `kafka` is empty and
    the others are None where an external server is used.
    """

    def __init__(
        self,
        data: Path,
        brokers: int = 1,
        databases: Sequence[str] = DATABASES,
        environment: Mapping[str, str] = os.environ,
        record: Mapping[str, Path] | None = None,
        afresh: bool = False,
    ) -> None:
        self.data = DataFolder(data)
        self.kafka: list[Kafka] = []
        self.postgres: Postgres | None = None
        self.apicurio: Apicurio | None = None
        self.valkey: Valkey | None = None
        self._brokers = brokers
        self._databases = databases
        self._environment = environment
        self._afresh = afresh
        #: Where to record Java's start-up archives instead of using them: only `infra.archives` does.
        self._record = record or {}
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        """Where everything is; only between `start` and `stop`."""
        assert self._addresses is not None, "the stack is not started"
        return self._addresses

    @property
    def servers(self) -> list[Server]:
        """The embedded servers."""
        return [*self.kafka, *(each for each in (self.postgres, self.apicurio, self.valkey) if each is not None)]

    async def start(self, on_ready: OnReady = lambda part: None) -> None:
        """Start every part, side by side where it can be; `on_ready` is called with each as soon as it answers."""
        external = External.read(self._environment, self._databases)
        await asyncio.to_thread(self.data.hold, self._afresh)
        try:
            await self._fetch_jars(external)
            self._make_servers(external)
            if self.kafka and self.apicurio and not self._record and not archives.have_all():
                await archives.record()
            self._addresses = await self._start_servers(external, on_ready)
            pids = {server.folder.name: server.pid for server in self.servers}
            self.data.note_running(self._addresses.environment(), pids)
        except BaseException as error:
            if self._record:
                self.kill()
            await self.stop()
            raise first_error(error) from None

    async def stop(self, timeout_seconds: float | None = None) -> None:
        """Stop every part; killed when it takes longer. Clients of PostgreSQL are cut off. May be called twice."""
        if self.apicurio is not None:
            await self.apicurio.stop(timeout_seconds)
        await asyncio.gather(*(server.stop(timeout_seconds) for server in self.servers))
        self._addresses = None
        self.data.release()

    def kill(self) -> None:
        """SIGKILL to every part, as if the machine had gone; `stop` afterwards lets go of the folder."""
        for server in self.servers:
            if server.is_running:
                server.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _fetch_jars(self, external: External) -> None:
        try:
            if external.kafka is None:
                await asyncio.to_thread(jars.kafka_class_path)
            if external.registry is None:
                await asyncio.to_thread(jars.apicurio_folder)
        except asyncio.CancelledError:
            # The thread would go on to the last byte, and Ctrl-C would wait for it.
            jars.abandon_downloads()
            raise

    def _make_servers(self, external: External) -> None:
        folder = self.data.path
        passwords = self.data.passwords(["postgres-admin", "valkey"])
        if external.kafka is None:
            self.kafka = kafka_nodes(folder, self._brokers, self._record.get("kafka"))
        if external.registry is None:
            self.apicurio = Apicurio(folder / "apicurio", self._record.get("apicurio"))
        if external.postgres_admin is None:
            self.postgres = Postgres(folder / "postgres", passwords["postgres-admin"])
        if external.redis is None:
            self.valkey = Valkey(folder / "valkey", passwords["valkey"])

    async def _start_servers(self, external: External, on_ready: OnReady) -> Addresses:
        async with asyncio.TaskGroup() as group:
            kafka = group.create_task(self._start_kafka(external, on_ready))
            redis_url = group.create_task(self._start_valkey(external, on_ready))
            registry = group.create_task(self._start_postgres_and_registry(external, on_ready))
        admin, databases, registry_url = registry.result()
        return Addresses(kafka.result(), registry_url, databases, admin, redis_url.result(), self._master_keys())

    def _master_keys(self) -> str:
        """What the user has set, or else this folder's own: it lives as long as the data that it protects."""
        given = self._environment.get(MASTER_KEYS)
        return given or f"local:{self.data.passwords(['master-key'])['master-key']}"

    async def _start_kafka(self, external: External, on_ready: OnReady) -> str:
        if external.kafka is not None:
            on_ready(Part("Apache Kafka", "external", external.kafka, 0.0))
            return external.kafka
        await start_together(self.kafka)
        bootstrap = ",".join(node.address for node in self.kafka)
        on_ready(Part(Kafka.name, self.kafka[0].version, bootstrap, max(node.seconds for node in self.kafka)))
        return bootstrap

    async def _start_valkey(self, external: External, on_ready: OnReady) -> str:
        if external.redis is not None:
            on_ready(Part("Redis", "external", _without_password(external.redis), 0.0))
            return external.redis
        assert self.valkey is not None
        await _start(self.valkey, on_ready)
        return self.valkey.url

    async def _start_postgres_and_registry(
        self, external: External, on_ready: OnReady
    ) -> tuple[str, Mapping[str, str], str]:
        admin = external.postgres_admin
        if admin is not None:
            on_ready(Part("PostgreSQL", "external", _without_password(admin), 0.0))
        else:
            assert self.postgres is not None
            await _start(self.postgres, on_ready)
            admin = self.postgres.admin_url
        wanted = [name for name in self._databases if name not in external.postgres]
        if external.registry is None and REGISTRY_DATABASE not in (*wanted, *external.postgres):
            wanted.append(REGISTRY_DATABASE)
        # The registry first: the slowest part waits for it.
        wanted.sort(key=lambda name: name != REGISTRY_DATABASE)
        first, rest = wanted[:1], wanted[1:]
        databases = {**external.postgres, **await self._make_databases(admin, first)}
        async with asyncio.TaskGroup() as group:
            registry = group.create_task(self._start_registry(external, databases, on_ready))
            others = group.create_task(self._make_databases(admin, rest))
        return admin, {**databases, **others.result()}, registry.result()

    async def _make_databases(self, admin: str, names: Sequence[str]) -> dict[str, str]:
        passwords = self.data.passwords(names)
        try:
            return await asyncio.to_thread(make_databases, admin, passwords)
        except psycopg.Error as error:
            raise SettingWrong(
                f"Databases could not be made at {_without_password(admin)}: {str(error).strip().splitlines()[0]} "
                "(PAVANE_DATABASE_ADMIN must name a role that may create roles and databases)."
            ) from None

    async def _start_registry(self, external: External, databases: Mapping[str, str], on_ready: OnReady) -> str:
        if external.registry is not None:
            on_ready(Part("Schema registry", "external", external.registry, 0.0))
            return external.registry
        assert self.apicurio is not None
        self.apicurio.database = databases[REGISTRY_DATABASE]
        await _start(self.apicurio, on_ready)
        return self.apicurio.address


async def _start(server: Server, on_ready: OnReady) -> None:
    await server.start()
    on_ready(Part(server.name, server.version, server.address, server.seconds))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
