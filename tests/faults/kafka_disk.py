"""A disk that is full under a broker's log: a small one, mounted there (needs root), or a limit of what it may write.

Either way the broker is told by the system that there is no room, as it would be by a disk.
"""

import resource
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.kafka import Kafka
from tests.faults.ballast import NO_ROOM, Ballast
from tests.faults.file_limit import limit

MEBIBYTE = 1024 * 1024
#: Beside what is there already.
ROOM_MEBIBYTES = 64


class SmallLogDisk:
    """Memory of a few megabytes, mounted where the broker has its log. `words`: the system's when it is full."""

    words = NO_ROOM

    def __init__(self, broker: Kafka) -> None:
        self._broker = broker
        self._folder = broker.folder / "log"
        self._ballast = Ballast(self._folder / "ballast")

    @asynccontextmanager
    async def holds_log(self) -> AsyncIterator[None]:
        """The log lies there as long as the block lasts; the broker is started again at its beginning and its end."""
        await self._broker.stop()
        kept = self._folder.with_name("kept")
        used = sum(file.stat().st_blocks * 512 for file in self._folder.rglob("*")) // MEBIBYTE
        self._folder.rename(kept)
        self._folder.mkdir()
        try:
            _run("mount", "-t", "tmpfs", "-o", f"size={used + ROOM_MEBIBYTES}m", "tmpfs", str(self._folder))
        except subprocess.CalledProcessError as error:
            self._folder.rmdir()
            kept.rename(self._folder)
            await self._broker.start()
            pytest.skip(f"no disk of its own can be mounted here: {error.stderr}")
        try:
            _copy(kept, self._folder)
            await self._broker.start()
            yield
        finally:
            self.give_room()
            await self._broker.stop()
            shutil.rmtree(kept)
            _copy(self._folder, kept)
            _run("umount", "-l", str(self._folder))
            self._folder.rmdir()
            kept.rename(self._folder)
            await self._broker.start()

    def fill(self) -> None:
        """Not a byte is free any more."""
        self._ballast.fill()

    def give_room(self) -> None:
        self._ballast.take_away()


class LogFileLimit:
    """The broker may not make the longest partition of `orders` longer. `words`: the system's then."""

    words = "File too large"

    def __init__(self, broker: Kafka) -> None:
        self._broker = broker

    @asynccontextmanager
    async def holds_log(self) -> AsyncIterator[None]:
        """Nothing need be moved."""
        yield

    def fill(self) -> None:
        """From now on one partition cannot grow, and soon none: the first that should ends the broker."""
        longest = max(segment.stat().st_size for segment in self._broker.folder.glob("log/orders-*/*.log"))
        limit(longest, [self._broker.pid])
        assert resource.prlimit(self._broker.pid, resource.RLIMIT_FSIZE)[0] == longest

    def give_room(self) -> None:
        """The limit has ended with the process that it was set for."""


def _copy(source: Path, to: Path) -> None:
    """Indexes are mostly holes, and stay so."""
    to.mkdir(exist_ok=True)
    _run("cp", "-a", "--sparse=always", f"{source}/.", str(to))


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
