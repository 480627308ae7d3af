"""A disk of a few megabytes that PostgreSQL may write to: memory, mounted in a folder of its own. Needs root.

Without root, `file_limit` fails the same way.
"""

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.unprivileged import OPEN_PLACES, unprivileged_user
from tests.faults.ballast import NO_ROOM, Ballast

MEBIBYTES = 32


class SmallDisk:
    """`folder` is PostgreSQL's, below the disk's root, where what fills it up lies. `words`: the server's then."""

    words = NO_ROOM

    def __init__(self, root: Path) -> None:
        self.folder = root / "tablespace"
        self._ballast = Ballast(root / "ballast")

    @asynccontextmanager
    async def holds_outbox(self, admins: psycopg.AsyncConnection) -> AsyncIterator[None]:
        """`admins`: of the service's database, whose outbox is there for as long as the block lasts."""
        await admins.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(self.folder))))
        try:
            await admins.execute("ALTER TABLE outbox SET TABLESPACE small")
            yield
        finally:
            self.give_room()
            await admins.execute("ALTER TABLE outbox SET TABLESPACE pg_default")
            await admins.execute("DROP TABLESPACE small")

    async def fill(self, admins: psycopg.AsyncConnection) -> None:
        """Not a byte is free any more."""
        self._ballast.fill()

    def give_room(self) -> None:
        self._ballast.take_away()


@contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Mounted for as long as the block lasts; skips the test where nothing may be mounted."""
    user = unprivileged_user()
    if user is None:
        pytest.skip("only root may mount a disk of its own, small enough to be filled")
    root = Path(tempfile.mkdtemp(prefix="pavane-small-disk-", dir=OPEN_PLACES[0]))
    root.chmod(0o755)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEBIBYTES}m,mode=755", "tmpfs", str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        if mounted.returncode != 0:
            pytest.skip(f"no disk of its own can be mounted here: {mounted.stderr.strip()}")
        disk = SmallDisk(root)
        disk.folder.mkdir(mode=0o700)
        os.chown(disk.folder, user.uid, user.gid)
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(root)], check=True)
    finally:
        root.rmdir()
