"""`pavane run` is killed: all that it started ends too, and goes on from the same folder when it is started again."""

import asyncio
import json
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx
import psutil
import pytest

from infra.addresses import DATABASE_ADMIN, KAFKA, MASTER_KEYS, REDIS, REGISTRY, Addresses, database_variable
from infra.processes import Child
from infra.stack import DATABASES
from pavane.given import JWKS
from pavane.issuer import Issuer
from streams.kit.shop import Shop
from tests.faults.harness import DEATH_SECONDS, LONG, ORDERS, SETTINGS, prove, seeds
from tests.faults.load import Load
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
STARTED_SECONDS = 90.0
ROUNDS = 2
#: Servers, services and the gateway, at least.
PROCESSES = 9
TAKEN_AT = re.compile(r"Orders are taken at (http://[^ ]+)\. ")
pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


class Everything(NamedTuple):
    """One run of it. `shop` knows its gateway."""

    process: Child
    shop: Shop
    addresses: Addresses


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    """The identity provider, who does not die with it."""
    with closing(Issuer(tmp_path / "provider" / "jwks.json")) as issuer:
        yield issuer


@asynccontextmanager
async def everything(folder: Path, tenant: str, issuer: Issuer) -> AsyncIterator[Everything]:
    """`pavane run` on this folder while the block runs, unless it is killed."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PAVANE_")}
    command = [sys.executable, "-m", "pavane", "run", "--data", str(folder)]
    environment = {**ours, **SETTINGS, JWKS: issuer.jwks_url, "PYTHONUNBUFFERED": "1"}
    process = Child("pavane-run", command, environment, folder.parent / "run.log", cwd=ROOT)
    try:
        await eventually(lambda: taken_at(process) or process.poll() is not None, STARTED_SECONDS, "it has started")
        assert process.poll() is None, process.log_tail()
        state = json.loads((folder / "stack.json").read_text())
        assert state["pid"] == process.pid
        async with httpx.AsyncClient(base_url=taken_at(process), timeout=20.0) as http:
            shop = Shop(http, issuer, tenant, patience_seconds=DEATH_SECONDS)
            yield Everything(process, shop, addresses_of(state["addresses"]))
    finally:
        await process.stop(STARTED_SECONDS)


def taken_at(process: Child) -> str:
    """Where it takes orders, once it has said so."""
    found = TAKEN_AT.search("\n".join(process.log_tail(50)))
    return found[1] if found else ""


def addresses_of(variables: Mapping[str, str]) -> Addresses:
    databases = {name: variables[database_variable(name)] for name in DATABASES}
    kafka, registry, admin, redis, keys = (
        variables[name] for name in (KAFKA, REGISTRY, DATABASE_ADMIN, REDIS, MASTER_KEYS)
    )
    return Addresses(kafka, registry, databases, admin, redis, keys)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_everything_that_dies_with_pavane_run_goes_on_when_that_is_started_again(
    tmp_path: Path, issuer: Issuer, seed: int
) -> None:
    folder, tenant, moments = tmp_path / "data", f"shop-{uuid4().hex[:10]}", random.Random(seed)
    async with AsyncExitStack() as runs:
        running = await runs.enter_async_context(everything(folder, tenant, issuer))
        load = Load(running.shop, running.addresses.postgres["orders"], seed, ORDERS)
        selling = asyncio.create_task(load.run())
        try:
            for _ in range(ROUNDS):
                await killed_in_mid_load(load, running, moments)
                running = await runs.enter_async_context(everything(folder, tenant, issuer))
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
