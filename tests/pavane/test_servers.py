"""An embedded server that has ended is told of and started again; the quickest of them stands for all."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.valkey import Valkey
from pavane.servers import keep
from pavane.supervisor import Bounds
from tests.waiting import eventually

SECONDS = 30.0
QUICK = Bounds(first_pause_seconds=0.1, longest_pause_seconds=0.2)


@pytest.fixture
async def part(tmp_path: Path) -> AsyncIterator[Valkey]:
    part = Valkey(tmp_path / "valkey", password="secret")
    await part.start()
    yield part
    await part.stop()


@pytest.fixture
async def said(part: Valkey) -> AsyncIterator[list[str]]:
    """What is said while it is kept."""
    said: list[str] = []
    keeping = asyncio.create_task(keep(part, said.append, QUICK))
    yield said
    keeping.cancel()


def tells(said: list[str], words: str) -> bool:
    return any(words in line for line in said)


async def test_a_server_that_was_killed_is_told_of_and_comes_back_on_its_port(part: Valkey, said: list[str]) -> None:
    pid, port = part.pid, part.port
    part.kill()

    await eventually(lambda: tells(said, "runs again, with pid"), SECONDS, "it runs again")

    assert part.is_running and part.pid != pid and part.port == port
    assert tells(said, "was ended by signal 9") and tells(said, "is started again in 0.1 s")


async def test_what_keeps_a_server_from_coming_up_is_told_and_it_is_tried_until_it_does(
    part: Valkey, said: list[str]
) -> None:
    broken = part.folder / "appendonlydir"
    kept = broken.rename(part.folder / "kept")
    broken.write_text("no folder")
    part.kill()

    await eventually(lambda: len([line for line in said if "is started again in 0.2 s" in line]) >= 2, SECONDS)
    assert not tells(said, "runs again")
    broken.unlink()
    kept.rename(broken)

    await eventually(lambda: tells(said, "runs again, with pid"), SECONDS, "it runs again")


async def test_a_folder_that_cannot_be_written_is_told_and_tried_until_it_can(part: Valkey, said: list[str]) -> None:
    config = part.folder / "valkey.conf"
    kept = config.rename(part.folder / "kept")
    config.mkdir()
    part.kill()

    await eventually(lambda: sum("Valkey could not be started: [Errno" in line for line in said) >= 2, SECONDS)
    config.rmdir()
    kept.rename(config)

    await eventually(lambda: tells(said, "runs again, with pid"), SECONDS, "it runs again")


async def test_a_configuration_that_is_as_it_was_is_not_written_again(part: Valkey, said: list[str]) -> None:
    """A start on a disk without room would end there, and leave an empty one."""
    config = part.folder / "valkey.conf"
    before = config.stat().st_mtime_ns
    part.kill()

    await eventually(lambda: tells(said, "runs again, with pid"), SECONDS, "it runs again")

    assert config.stat().st_mtime_ns == before
