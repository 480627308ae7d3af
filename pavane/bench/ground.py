"""A platform for one scenario: a stack of its own in a fresh folder, everything running, every process watched.

Where the environment names servers of the user's own, those are used; what is on them already is then part of it.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from infra import topics
from infra.datafolder import DataFolder
from infra.errors import DataFolderUnusable
from infra.stack import WORLD_DATABASE, Stack
from pavane.bench import database, log
from pavane.bench.usage import Usage
from pavane.bench.workload import Workload
from pavane.platform import Platform
from streams.kit.run import services

GOODS_SECONDS = 120.0


class Ground:
    """A running platform, the processes that it consists of, and what is known about their use of the machine."""

    def __init__(self, stack: Stack, platform: Platform) -> None:
        self.stack = stack
        self.platform = platform
        self.addresses = stack.addresses
        self.extra: dict[str, int] = {}
        #: Something is wrong, and what is there shows it.
        self.is_kept = False
        #: Every database in which a saga leaves something.
        self.databases = {name: self.addresses.postgres[name] for name in (*services(), WORLD_DATABASE)}
        self._names = {url.rpartition("/")[2].partition("?")[0]: name for name, url in self.databases.items()}

    def pids(self) -> Mapping[str, int]:
        """Every process by a name: servers, services, gateway, this one, and what a scenario starts besides.

        Of several of one service, each has its number behind a dot.
        """
        servers = {server.folder.name: server.pid for server in self.stack.servers if server.is_running}
        running = [each for of_name in self.platform.children.values() for each in of_name if each.is_running]
        counts = Counter(each.name for each in running)
        names = {each: each.name if counts[each.name] == 1 else f"{each.name}.{each.number}" for each in running}
        return {**servers, **{names[each]: each.pid for each in running}, "bench": os.getpid(), **self.extra}

    def look(self) -> database.Statistics:
        return database.look(self.addresses.postgres_admin)

    def used(self, before: database.Statistics, after: database.Statistics) -> database.Use:
        return database.between(self.addresses.postgres_admin, before, after, self._names)

    async def fill(self, workload: Workload) -> None:
        """Prices and stock are set when this returns."""
        await log.put_goods(self.addresses, workload)
        await self.platform.heard("orders.requests", "inventory.requests", timeout_seconds=GOODS_SECONDS)
        await self.platform.settled(GOODS_SECONDS)


@asynccontextmanager
async def ground(
    folder: Path,
    partitions: int | None = None,
    environment: Mapping[str, str] | None = None,
    brokers: int = 1,
    workers: int = 1,
) -> AsyncIterator[tuple[Ground, Usage]]:
    """Everything up, until the block ends; then the folder is emptied, unless the block failed or says otherwise.

    `workers`: processes of each service. `brokers`: of an embedded Kafka.
    """
    before = os.environ.get(topics.PARTITIONS)
    if partitions is not None:
        os.environ[topics.PARTITIONS] = str(partitions)
    try:
        instances = dict.fromkeys(services(), workers)
        async with (
            Stack(folder, brokers=brokers, afresh=True) as stack,
            Platform(stack, instances, environment) as platform,
        ):
            found = Ground(stack, platform)
            with Usage(found.pids) as usage:
                yield found, usage
    finally:
        if partitions is not None:
            os.environ.pop(topics.PARTITIONS)
            if before is not None:
                os.environ[topics.PARTITIONS] = before
    if not found.is_kept:
        leave_empty(folder)


def leave_empty(folder: Path) -> None:
    """Remove what a stack left in its folder; where somebody uses it already, it is theirs."""
    data = DataFolder(folder)
    with suppress(DataFolderUnusable):
        data.hold(afresh=True)
        data.release()
