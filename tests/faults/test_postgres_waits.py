"""PostgreSQL keeps its clients waiting: for a lock, for a connection, for room on the disk, or for nothing at all."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from infra.postgres import Postgres
from pavane.instance import Instance
from tests.faults.file_limit import FileLimit
from tests.faults.harness import ALL, Ground, seeds, under_load
from tests.faults.small_disk import SmallDisk, small_disk
from tests.waiting import eventually

FIRST_ORDERS = 40
NOTICED_SECONDS = 90.0
#: A lock is held for so long, by the database's clock,
HELD_SECONDS = 20
#: and until so many transactions have waited for it in vain: each waits as long as it may last.
IN_VAIN = 4
HELD = "SELECT clock_timestamp() - xact_start >= make_interval(secs => %s) FROM pg_stat_activity WHERE pid = %s"
WAITERS = "SELECT pid FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'pavane-worker'"
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not ALL, reason="long, and the killed server shows the worst of it: make faults"),
]


@pytest.fixture
def server(ground: Ground) -> Postgres:
    if ground.stack.postgres is None:
        pytest.skip("the server is not ours to break")
    return ground.stack.postgres


@asynccontextmanager
async def admin(ground: Ground, server: Postgres, service: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """The server's owner, in the service's database."""
    parts = urlsplit(server.admin_url)._replace(path=urlsplit(ground.stack.addresses.postgres[service]).path)
    async with await psycopg.AsyncConnection.connect(parts.geturl(), autocommit=True) as connection:
        yield connection


class Telling:
    """What a process logs from now on: others may have had the same fault before."""

    def __init__(self, instance: Instance) -> None:
        self._log = instance.log_file
        self._before = self._log.stat().st_size

    def has(self, words: str) -> bool:
        return words in self._log.read_bytes()[self._before :].decode()


# -- locks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(
    ("service", "lock"),
    [
        ("orders", "SELECT 1 FROM lanes WHERE partition = 0 FOR UPDATE"),
        ("billing", "SELECT 1 FROM lanes FOR UPDATE"),
        ("inventory", "SELECT 1 FROM stock FOR UPDATE"),
    ],
    ids=["one lane", "all lanes", "stock"],
)
async def test_a_row_that_is_locked_for_longer_than_a_transaction_may_last_is_waited_for_and_nothing_is_lost(
    ground: Ground, server: Postgres, service: str, lock: str, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        [instance] = ground.running(service)
        waited: set[int] = set()
        watching = admin(ground, server, service)
        async with admin(ground, server, service) as locking, watching as watch, locking.transaction():
            locked = await locking.execute(lock.encode())
            assert locked.rowcount > 0

            holder = locking.info.backend_pid

            async def have_waited() -> bool:
                waited.update(pid for (pid,) in await (await watch.execute(WAITERS, (holder,))).fetchall())
                [(held,)] = await (await watch.execute(HELD, (HELD_SECONDS, holder))).fetchall()
                return held and len(waited) >= IN_VAIN

            what = f"{IN_VAIN} transactions have waited for the lock, one by one, in {HELD_SECONDS} s at least"
            await eventually(have_waited, NOTICED_SECONDS, what)
        await ground.ready(instance)


# -- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds())
async def test_a_service_that_may_not_connect_any_more_says_so_and_comes_back_by_itself(
    ground: Ground, server: Postgres, seed: int
) -> None:
    url = urlsplit(ground.stack.addresses.postgres["billing"])
    role = sql.Identifier(url.username or "")
    limit = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}")
    async with under_load(ground, seed) as load, admin(ground, server, "billing") as admins:
        await load.accepted(FIRST_ORDERS)
        [instance] = ground.running("billing")
        before = await ground.epochs("billing")
        try:
            await admins.execute(limit.format(role, 0))
            for (pid,) in await (await admins.execute(BACKENDS, (url.path[1:],))).fetchall():
                await admins.execute("SELECT pg_terminate_backend(%s)", (pid,))

            async def says_so() -> bool:
                health = await instance.health()
                return health is not None and any("too many connections" in each for each in health["away"])

            await eventually(says_so, NOTICED_SECONDS, "it says that there are too many connections")
        finally:
            await admins.execute(limit.format(role, -1))
        await ground.until_taken_over("billing", before)
        assert instance.is_running


# -- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["small disk", "file limit"])
def disk(request: pytest.FixtureRequest, server: Postgres) -> Iterator[SmallDisk | FileLimit]:
    if request.param == "file limit":
        yield FileLimit(server)
        return
    with small_disk() as disk:
        yield disk


@pytest.mark.parametrize("seed", seeds())
async def test_a_full_disk_is_waited_for_and_nothing_that_was_accepted_is_lost(
    ground: Ground, server: Postgres, disk: SmallDisk | FileLimit, seed: int
) -> None:
    [instance] = ground.running("billing")
    logged = len(server.log_file.read_text())
    async with admin(ground, server, "billing") as admins, disk.holds_outbox(admins), under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        before = await ground.epochs("billing")
        telling = Telling(instance)
        await disk.fill(admins)
        await eventually(lambda: telling.has(disk.words), NOTICED_SECONDS, "billing says that the disk is full")
        said = server.log_file.read_text()[logged:]
        assert "could not extend file" in said and disk.words in said
        assert instance.is_running
        disk.give_room()
        await ground.until_taken_over("billing", before)


# -- a server that stands still --------------------------------------------------------------------------------------


@contextmanager
def frozen(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", ["billing", "inventory", "timeline"])
async def test_a_server_process_that_stands_still_is_hung_up_on_and_its_work_is_done_again(
    ground: Ground, server: Postgres, service: str, seed: int
) -> None:
    database = urlsplit(ground.stack.addresses.postgres[service]).path[1:]
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        [instance] = ground.running(service)
        before = await ground.epochs(service)
        async with admin(ground, server, service) as admins:
            pids = [pid for (pid,) in await (await admins.execute(BACKENDS, (database,))).fetchall()]
        assert pids
        telling = Telling(instance)
        with frozen(pids):
            await eventually(lambda: telling.has('"database_hung_up"'), NOTICED_SECONDS, f"{service} hangs up")
        await ground.until_taken_over(service, before)
        assert instance.is_running
