"""A process that hangs or gets nowhere is seen, one that is asked to end ends in time, and no order is lost by it."""

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable

import psycopg
import pytest
from structlog.testing import capture_logs

from streams.kit import management
from streams.kit.ending import OVERDUE
from streams.kit.management import Management
from tests.kit import conftest as kit
from tests.kit.running import KEYS, Counting
from tests.kit.running import Instance as Working
from tests.waiting import eventually

counter_database, database, counting = kit.counter_database, kit.database, kit.counting

ENDS_WITHIN_SECONDS = 10.0
pytestmark = pytest.mark.usefixtures("luck")


# -- what hangs is seen --------------------------------------------------------------------------------------------


async def test_a_blocked_event_loop_is_logged_once_with_the_place_where_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(management, "TICK_SECONDS", 0.05)
    port = Management("127.0.0.1", 0, lambda: {"ready": True})
    await asyncio.sleep(0)
    try:
        with capture_logs() as lines:
            a_decision_that_never_ends(until=lambda: len(lines) > 0)
            # Still the same blockage, for twice as long as it takes to be seen.
            ticks = time.monotonic() + 2 * management.BLOCKED_TICKS * management.TICK_SECONDS
            a_decision_that_never_ends(until=lambda: time.monotonic() > ticks)
            [blocked] = lines
            turned = port._turned
            await eventually(lambda: port._turned > turned, what="the loop turns again")
            a_decision_that_never_ends(until=lambda: len(lines) > 1)
    finally:
        port.close()
    assert (blocked["event"], blocked["log_level"]) == ("loop_blocked", "error")
    assert "in a_decision_that_never_ends" in blocked["stack"]
    assert [line["event"] for line in lines] == ["loop_blocked", "loop_blocked"], "a new blockage is told anew"


def a_decision_that_never_ends(until: Callable[[], bool]) -> None:
    """Blocks the loop: nothing else runs on it meanwhile."""
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline, "the blocked loop was not seen"
        time.sleep(0.005)


async def test_a_worker_whose_batch_does_not_end_is_idle_with_lag(counting: Counting) -> None:
    instance = await counting.start()
    await counting.ask(*((key, 1) for key in KEYS))
    await counting.until_totals(dict.fromkeys(KEYS, 1))
    await eventually(lambda: idle(instance) < 1, what="a worker with nothing to hear is not idle")
    async with await psycopg.AsyncConnection.connect(counting.database) as another:
        await another.execute("SELECT * FROM lanes FOR UPDATE")
        await counting.ask(*((key, 1) for key in KEYS))
        await eventually(lambda: idle(instance) > 2, what="its batch waits for the lock")
        assert set((await counting.totals()).values()) == {1}
        assert instance.readiness()["away"] == []
    await counting.until_totals(dict.fromkeys(KEYS, 2))
    await eventually(lambda: idle(instance) < 1)


async def test_a_client_that_no_longer_asks_the_log_is_seen_though_it_knows_of_no_lag(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kit.worker.LOOK_AFTER_SECONDS", 0.2)
    instance = await counting.start()
    await counting.ask(*((key, 1) for key in KEYS))
    await counting.until_totals(dict.fromkeys(KEYS, 1))
    instance.log._consumer._fetcher._fetch_task.cancel()
    await eventually(lambda: idle(instance) > 2, what="nobody fetches")
    await counting.ask(*((key, 1) for key in KEYS))
    await eventually(lambda: idle(instance) > 4, what="nobody fetches")
    assert set((await counting.totals()).values()) == {1}
    assert instance.readiness()["away"] == []


def idle(instance: Working) -> float:
    return float(instance.readiness()["idle_with_lag_seconds"])


# -- what is asked to end does -------------------------------------------------------------------------------------


BLOCKED = """
import asyncio, sys, time
from streams.kit import ending, logs

def a_decision_that_never_ends():
    print("blocked", flush=True)
    while True:
        time.sleep(0.01)

async def main(ending):
    stop = asyncio.Event()
    ending.sets(stop)
    if sys.argv[1] == "hangs":
        a_decision_that_never_ends()
    print("waits", flush=True)
    await stop.wait()

logs.set_up("hanging")
ending.ENDS_WITHIN_SECONDS = 10.0 if sys.argv[1] == "waits" else 0.3
asyncio.run(main(ending.Ending()))
"""


@pytest.mark.parametrize("asked_by", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_whose_loop_is_blocked_ends_when_asked_and_says_where_it_hung(asked_by: signal.Signals) -> None:
    process, said = await asked_to_end("hangs", asked_by)
    assert process.returncode == OVERDUE
    [line] = said.splitlines()
    overdue = json.loads(line)
    assert (overdue["event"], overdue["after_seconds"]) == ("stop_overdue", 0.3)
    assert "in a_decision_that_never_ends" in overdue["stack"]


@pytest.mark.parametrize("asked_by", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_does_not_hang_ends_in_good_order(asked_by: signal.Signals) -> None:
    process, said = await asked_to_end("waits", asked_by)
    assert (process.returncode, said) == (0, b"")


async def asked_to_end(how: str, asked_by: signal.Signals) -> tuple[asyncio.subprocess.Process, bytes]:
    """The process after its end, and what it said on standard error."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", BLOCKED, how, stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) in (b"blocked\n", b"waits\n")
        process.send_signal(asked_by)
        _, said = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    return process, said
