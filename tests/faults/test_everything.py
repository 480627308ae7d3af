"""The process that supervises everything is killed: all that it started ends too, and goes on from the same folder."""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import psutil
import pytest

from infra.addresses import Addresses
from infra.processes import Child
from streams.kit.shop import Shop
from tests.faults.everything import REACHED
from tests.faults.harness import DEATH_SECONDS, LONG, ORDERS, prove, seeds
from tests.faults.load import Load
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
STARTED_SECONDS = 90.0
ROUNDS = 2
#: Servers, services and the gateway, at least.
PROCESSES = 9
pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


class Everything(NamedTuple):
    """One run of it. `shop` knows its gateway."""

    process: Child
    shop: Shop
    addresses: Addresses


class Issued(NamedTuple):
    """The tokens that it gave away at its start."""

    customer: str
    operator: str

    def token(self, tenant: str, subject: str) -> str:
        return self.customer

    def operator_token(self, tenant: str) -> str:
        return self.operator


@asynccontextmanager
async def everything(folder: Path, tenant: str) -> AsyncIterator[Everything]:
    """Runs on this folder while the block does, unless it is killed."""
    reached = folder / REACHED
    reached.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.faults.everything", str(folder), tenant]
    process = Child("everything", command, dict(os.environ), folder.parent / "everything.log", cwd=ROOT)
    try:
        await eventually(lambda: reached.exists() or process.poll() is not None, STARTED_SECONDS, "it has started")
        assert process.poll() is None, process.log_tail()
        found = json.loads(reached.read_text())
        async with httpx.AsyncClient(base_url=found["url"], timeout=20.0) as http:
            shop = Shop(http, Issued(found["customer"], found["operator"]), tenant, patience_seconds=DEATH_SECONDS)
            yield Everything(process, shop, Addresses(**found["addresses"]))
    finally:
        await process.stop(STARTED_SECONDS)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_everything_that_dies_with_its_supervisor_goes_on_when_it_is_started_again(
    tmp_path: Path, seed: int
) -> None:
    folder, tenant, moments = tmp_path / "data", f"shop-{uuid4().hex[:10]}", random.Random(seed)
    async with AsyncExitStack() as runs:
        running = await runs.enter_async_context(everything(folder, tenant))
        load = Load(running.shop, running.addresses.postgres["orders"], seed, ORDERS)
        selling = asyncio.create_task(load.run())
        try:
            for _ in range(ROUNDS):
                await killed_in_mid_load(load, running, moments)
                running = await runs.enter_async_context(everything(folder, tenant))
                load.goes_on_at(running.shop, running.addresses.postgres["orders"])
            load.faults_are_over()
            await selling
        finally:
            selling.cancel()
        await prove(running.addresses, load)
    assert load.asked_again > 0
    assert load.ended.keys() == load.kinds.keys(), "there are other orders than the customers know of"


async def killed_in_mid_load(load: Load, running: Everything, moments: random.Random) -> None:
    """SIGKILL to the one process; what it started ends by itself."""
    await load.accepted(load.placed + moments.randrange(100, 300))
    assert load.placed > len(load.ended), "no order was under way"
    started = psutil.Process(running.process.pid).children(recursive=True)
    assert len(started) >= PROCESSES
    os.kill(running.process.pid, signal.SIGKILL)
    assert await running.process.wait(DEATH_SECONDS) == -signal.SIGKILL
    await eventually(
        lambda: not any(is_alive(each) for each in started), DEATH_SECONDS, "all that it started has ended"
    )


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
