"""The whole demonstration, as a user starts it: with its own stack in its own folder."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from infra.errors import ExitedEarly
from infra.stack import Stack
from pavane.platform import Platform
from tests.waiting import eventually

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

Start = Callable[..., Awaitable[Process]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder for all of these: each goes on where the one before ended."""
    return tmp_path_factory.mktemp("demonstration") / "data"


@pytest.fixture
async def start(data: Path) -> AsyncIterator[Start]:
    """`await start("demo", ORDERS="40")`: the command on that folder; killed when the test leaves it running."""
    started: list[Process] = []

    async def run(*words: str, **settings: str) -> Process:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAVANE_DATABASE")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pavane.main", *words),
            env={**inherited, "DATA": str(data), **settings},
            stdout=PIPE,
            stderr=STDOUT,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until(process: Process, words: str) -> str:
    """What it writes, up to the first line with these words."""
    assert process.stdout is not None
    written = ""
    while words not in written:
        line = await process.stdout.readline()
        assert line, f"it ended without saying {words!r}:\n{written}"
        written += line.decode()
    return written


async def rest(process: Process) -> tuple[int, str]:
    written, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, written.decode()


async def test_orders_come_to_what_data_and_seed_ask_for_and_every_invariant_holds(start: Start) -> None:
    code, said = await rest(await start("demo", ORDERS="40"))

    assert code == 0, said
    assert re.search(r"All \d+ invariants hold", said)
    assert "WRONG" not in said
    assert "The first order was confirmed" in said
    assert said.replace("\n", "").isprintable()


async def test_a_killed_launcher_leaves_nothing_running(start: Start) -> None:
    process = await start("demo", ORDERS="400")
    await until(process, "through the gateway")
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) > len({"kafka", "registry", "postgres", "valkey", "five services", "gateway"})

    process.kill()

    assert await process.wait() == -signal.SIGKILL
    await eventually(lambda: not any(map(_runs, started)), 20, "everything that it started has ended")


async def test_the_next_start_finds_the_orders_stays_up_when_told_to_and_tells_what_dies(
    start: Start, data: Path
) -> None:
    process = await start("demo", ORDERS="20", KEEP="1")
    said = await until(process, "kill -9")
    found = re.search(r"(\d+) orders placed before", said)
    assert found, said
    assert int(found[1]) >= 40
    assert re.search(r"All \d+ invariants hold", said)

    [pid] = re.findall(r"kill -9 (\d+)", said)
    os.kill(int(pid), signal.SIGKILL)
    told = await until(process, "Nothing is lost")
    assert "billing-1 was ended by signal 9" in told

    again = await start("run", "billing")
    await until(again, "lane_taken")
    code, said = await rest(await start("audit"))
    assert (code, "invariants hold" in said) == (0, True), said

    again.send_signal(signal.SIGINT)
    assert await again.wait() == 130
    process.send_signal(signal.SIGINT)
    code, said = await rest(process)
    assert (code, "Traceback" in said) == (0, False), said
    assert not (data / "stack.json").exists()


async def test_an_interrupt_while_orders_run_stops_everything(start: Start) -> None:
    process = await start("demo", ORDERS="400")
    await until(process, "through the gateway")
    started = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(signal.SIGINT)
    code, said = await rest(process)

    assert (code, "Traceback" in said) == (130, False), said
    assert not any(map(_runs, started))


async def test_a_platform_that_cannot_come_up_says_why_and_leaves_nothing_running(data: Path) -> None:
    async with Stack(data) as stack:
        platform = Platform(stack, environment={"PAVANE_LOG_LEVEL": "loud"})

        with pytest.raises(ExitedEarly, match="PAVANE_LOG_LEVEL"):
            await platform.__aenter__()

        started = [instance for of_service in platform.children.values() for instance in of_service]
        assert started
        assert not any(instance.is_running for instance in started)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
