"""A quota that needs no root: no file of a service's outbox may grow (RLIMIT_FSIZE of the server's processes).

The room that is left in the outbox is taken first, by rows that are rolled back: nobody sees them, and while nothing
vacuums the table they stay. Then the next row needs another page, and the server cannot add it: as on a full disk.
"""

import contextlib
import resource
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psutil
import psycopg

from infra.postgres import Postgres
from infra.unprivileged import unprivileged_user

PAGE_BYTES = 8192
#: No process may be kept from writing the log of writes, whose files are so long.
LEAST_BYTES = 16 * 1024 * 1024
#: Four rows of this length fill a page, and are not stored elsewhere for being long.
ROWS_A_PAGE, ROW_BYTES = 4, 1980
TAKE_ROOM = """
    INSERT INTO outbox (partition, number, facts)
    SELECT -1, number, convert_to(repeat('x', %s), 'UTF8') FROM generate_series(1, %s) number
"""
SIZE = "SELECT pg_relation_size('outbox')"
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pavane-worker'"


class FileLimit:
    """For one service's outbox on this server. `words`: what the server says when there is no room."""

    words = "File too large"

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._is_full = False

    @asynccontextmanager
    async def holds_outbox(self, admins: psycopg.AsyncConnection) -> AsyncIterator[None]:
        """`admins`: of the service's database."""
        await admins.execute("ALTER TABLE outbox SET (autovacuum_enabled = off)")
        try:
            yield
        finally:
            self.give_room()
            await admins.execute("ALTER TABLE outbox RESET (autovacuum_enabled)")
            await admins.execute("VACUUM outbox")

    async def fill(self, admins: psycopg.AsyncConnection) -> None:
        """From now on no page can be added."""
        pages = LEAST_BYTES // PAGE_BYTES
        async with admins.transaction(force_rollback=True):
            await admins.execute(TAKE_ROOM, (ROW_BYTES, pages * ROWS_A_PAGE))
        [(size,)] = await (await admins.execute(SIZE)).fetchall()
        assert size >= LEAST_BYTES
        working = [pid for (pid,) in await (await admins.execute(BACKENDS)).fetchall()]
        self._limit(size, [self._server.pid, *working])

    def give_room(self) -> None:
        """Files may grow again."""
        if self._is_full:
            self._limit(-1, [self._server.pid, *(each.pid for each in psutil.Process(self._server.pid).children())])

    def _limit(self, size: int, pids: Sequence[int]) -> None:
        """Of these processes, and of those that they will start; -1: none but what nobody may exceed.

        A user may limit their own processes. Root may be less than it was, and not be allowed to limit those of others:
        so it is done by the user whom the server belongs to.
        """
        user = unprivileged_user()
        who: dict[str, Any] = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        # A process of theirs that does so before it becomes a program: there may be no Python that they can read.
        subprocess.run(["/bin/true"], check=True, cwd="/", preexec_fn=lambda: limit(size, pids), **who)
        self._is_full = size >= 0


def limit(size: int, pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if size < 0 else size, most))
