"""A base backup of the whole PostgreSQL server and its write-ahead log since, by PostgreSQL's own programs, and a
server brought up from them as it was at some time."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from infra.postgres import Postgres, program
from infra.unprivileged import unprivileged_user
from tests.waiting import eventually

SECONDS = 60.0


class Archive:
    """What an operator keeps in `folder`: `base`, and in `wal` every segment of the log since."""

    def __init__(self, folder: Path, admin: str) -> None:
        self._folder = folder
        self._admin = admin
        self._user = unprivileged_user()
        self._wal = folder / "wal"
        self._base = folder / "base"

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Take the base backup, and keep the log as long as the block runs."""
        self._wal.mkdir(parents=True)
        receiving = await self._start("pg_receivewal", "-D", str(self._wal))
        try:
            await eventually(lambda: any(self._wal.iterdir()), SECONDS, "the log is received")
            words = ["-D", str(self._base), "-X", "none", "--checkpoint=fast", "--no-manifest"]
            assert await (await self._start("pg_basebackup", *words)).wait() == 0
            yield
        finally:
            receiving.terminate()
            await receiving.wait()

    async def _start(self, name: str, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(str(program(name, self._user)), "-d", self._admin, *words)

    async def now(self) -> str:
        """The server's time; returns when the log is kept up to some commit after it, where a recovery may stop."""
        async with await psycopg.AsyncConnection.connect(self._admin, autocommit=True) as connection:
            [(now,)] = await (await connection.execute("SELECT clock_timestamp()::text")).fetchall()
            await connection.execute("SELECT pg_current_xact_id()")
            [(name,)] = await (await connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())")).fetchall()
            await connection.execute("SELECT pg_switch_wal()")
        await eventually((self._wal / str(name)).exists, SECONDS, f"{name} is kept")
        return str(now)

    @asynccontextmanager
    async def restored(self, at: str) -> AsyncIterator[str]:
        """A server beside the live one, as everything was at that time; its address as administrator."""
        folder = self._folder / "restored"
        await asyncio.to_thread(shutil.copytree, self._base, folder / "cluster")
        with (folder / "cluster" / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f"restore_command = 'cp ../wal/%f %p'\nrecovery_target_time = '{at}'\n"
                "recovery_target_action = 'promote'\n"
            )
        (folder / "cluster" / "recovery.signal").touch()
        await asyncio.to_thread(shutil.copytree, self._wal, folder / "wal")
        if self._user is not None:
            for path in folder.rglob("*"):
                os.chown(path, self._user.uid, self._user.gid)
        server = Postgres(folder, urlsplit(self._admin).password or "")
        await server.start()
        try:
            await eventually(lambda: _is_over(server.admin_url), SECONDS, "the recovery is over")
            yield server.admin_url
        finally:
            await server.stop()


async def _is_over(url: str) -> bool:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        [(recovering,)] = await (await connection.execute("SELECT pg_is_in_recovery()")).fetchall()
        return not recovering
