"""Processes that die or stand still are started again, those that are asked to end do, and no order notices."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import psycopg
import pytest

from infra import topics
from infra.processes import Child
from infra.stack import Stack
from pavane.console import INTERRUPTED
from pavane.instance import GATEWAY, Instance
from pavane.platform import Platform
from pavane.supervisor import Bounds
from streams.kit.ending import OVERDUE
from streams.kit.run import services
from streams.kit.shop import Shop
from tests.faults.harness import LONG, Ground, audited_at_rest, seeds, under_load
from tests.waiting import eventually

ENDS_WITHIN_SECONDS = 10.0
#: Orders that are accepted in a round, at most, before its processes are asked to end: the others come while they do.
MOST_BEFORE = 300
#: A process may hang for so long before it is killed.
BOUNDS = Bounds(patience_seconds=3.0)
#: It is killed before its database gives the transaction up, which would count as an answer.
IMPATIENT = Bounds(patience_seconds=1.0, idle_seconds=1.0)


def customers(platform: Platform) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=platform.gateway_url, timeout=20.0)


async def restart(platform: Platform, old: Instance) -> float:
    """A new process for an old one that is asked to end; how long the old one took to end."""
    begun = time.monotonic()
    code = await old.stop()
    took = time.monotonic() - begun
    assert code == 0, f"{old.label}: {code}, {old.child.log_tail()}"
    await platform.start(old.name)
    return took


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_rolling_restart_of_every_service_under_load_loses_no_order(stack: Stack, seed: int) -> None:
    names, luck = services(), random.Random(seed)
    async with Platform(stack, dict.fromkeys(names, 2)) as platform, customers(platform) as http:
        olds = {name: tuple(platform.children[name]) for name in names}
        async with under_load(Ground(stack, platform, http), seed) as load:
            for number in (0, 1):
                await load.accepted(load.placed + luck.randint(1, MOST_BEFORE))
                assert load.placed > len(load.ended), "no order was under way when the processes ended"
                took = await asyncio.gather(*(restart(platform, olds[name][number]) for name in names))
                assert max(took) < ENDS_WITHIN_SECONDS
        assert not any(old.is_running for pair in olds.values() for old in pair)


@pytest.mark.parametrize("seed", seeds())
async def test_what_dies_or_stands_still_is_started_again_and_the_orders_go_on(stack: Stack, seed: int) -> None:
    said: list[str] = []
    async with Platform(stack) as platform, customers(platform) as http:
        shop = Shop(http, platform.issuer, f"shop-{uuid4().hex[:10]}", patience_seconds=90.0)
        supervising = asyncio.create_task(platform.supervise(said.append, BOUNDS))
        await shop.price("lamp", 1999)
        await shop.receive("lamp", 10)
        url = platform.gateway_url
        dying, hanging = random.Random(seed).sample(services(), 2)
        dead = [platform.children[name][0] for name in (dying, GATEWAY)]
        [frozen] = platform.children[hanging]
        for instance in dead:
            os.kill(instance.pid, signal.SIGKILL)
        frozen.freeze()
        await eventually(lambda: stands_still(frozen.pid), what=f"{frozen.label} stands still")
        for instance in (*dead, frozen):
            await eventually(lambda it=instance: f"{it.label} runs again" in "\n".join(said), 60)
            assert instance.child.poll() == -signal.SIGKILL
            assert platform.children[instance.name][1].label == instance.label
        assert platform.gateway_url == url
        order = await shop.place(sku="lamp")
        assert await shop.status(order) == "confirmed"
        assert not supervising.done()
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)
        await audited_at_rest(stack.addresses)
    told = "\n".join(said)
    assert f"{dead[0].label} was ended by signal 9" in told
    assert f"{frozen.label}, pid {frozen.pid}, does not answer" in told


async def test_a_service_that_answers_but_gets_nowhere_is_started_again_and_its_orders_go_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pavane.supervisor.BETWEEN_LOOKS_SECONDS", 0.2)
    said: list[str] = []
    async with Platform(stack) as platform, customers(platform) as http:
        shop = Shop(http, platform.issuer, f"shop-{uuid4().hex[:10]}", patience_seconds=90.0)
        supervising = asyncio.create_task(platform.supervise(said.append, IMPATIENT))
        await shop.price("lamp", 1999)
        await shop.receive("lamp", 10)
        [stuck] = platform.children["billing"]
        async with await psycopg.AsyncConnection.connect(stack.addresses.postgres["billing"]) as another:
            await another.execute("SELECT * FROM lanes FOR UPDATE")
            order = await shop.place(sku="lamp")
            await eventually(lambda: not stuck.is_running, 60, "what gets nowhere is killed")
            assert "PaymentAuthorized" not in (await shop.look(order)).facts
        assert stuck.child.poll() == -signal.SIGKILL
        await eventually(lambda: f"{stuck.label} runs again" in "\n".join(said), 60)
        assert await shop.status(order) == "confirmed"
        assert not supervising.done()
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)
        await audited_at_rest(stack.addresses)
    killed = [line for line in "\n".join(said).splitlines() if "It is killed" in line]
    assert f"{stuck.label}, pid {stuck.pid}, has made no progress for" in killed[0]
    assert {line.split(", pid")[0] for line in killed} == {stuck.label}, "nobody else was killed"


async def test_services_that_were_run_alone_are_started_again_and_end_together(stack: Stack, tmp_path: Path) -> None:
    log_file = tmp_path / "run.log"
    environment = {**os.environ, **stack.addresses.environment()}
    command = [sys.executable, "-m", "pavane", "run", "billing", "shipping"]
    launcher = Child("pavane-run", command, environment, log_file)
    try:

        def pids() -> dict[str, int]:
            running = [child for child in psutil.Process(launcher.pid).children() if child.is_running()]
            return {child.cmdline()[-1]: child.pid for child in running if "streams.kit.run" in child.cmdline()}

        def started() -> bool:
            return all(f"{label} runs, with pid" in log_file.read_text() for label in ("billing-1", "shipping-2"))

        await eventually(started, 30)
        before = pids()
        assert before.keys() == {"billing", "shipping"}
        os.kill(before["billing"], signal.SIGKILL)
        await eventually(lambda: "billing-1 runs again" in log_file.read_text(), 30, "started again")
        assert "billing was ended by signal 9; see above." in log_file.read_text()
        after = pids()
        assert after["shipping"] == before["shipping"]
        assert after["billing"] != before["billing"]
        assert await launcher.stop(ENDS_WITHIN_SECONDS + 5) == INTERRUPTED
        assert not any(psutil.pid_exists(pid) for pid in after.values())
    finally:
        launcher.kill()


# -- and a service that is asked to end does -------------------------------------------------------------------------


def stands_still(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_service_ends_within_the_bound_though_a_server_stands_still(
    stack: Stack, tmp_path: Path, server: str
) -> None:
    if not stack.kafka or stack.postgres is None:
        pytest.skip("the servers are not ours to freeze")
    frozen_server = stack.kafka[0] if server == "kafka" else stack.postgres
    instance = Instance("orders", 1, {**os.environ, **stack.addresses.environment()}, tmp_path / "orders.log")
    try:
        await eventually(lambda: holds_all_lanes(instance), 40)
        frozen_server.pause()
        await eventually(lambda: stands_still(frozen_server.pid))
        begun = time.monotonic()
        instance.child._process.send_signal(signal.SIGTERM)
        code = await instance.child.wait(ENDS_WITHIN_SECONDS + 5)
        took = time.monotonic() - begun
        assert stands_still(frozen_server.pid)
    finally:
        frozen_server.resume()
        instance.child.kill()
    assert took < ENDS_WITHIN_SECONDS
    log = instance.log_file.read_text()
    assert ('"event": "stopped"' in log, '"event": "stop_overdue"' in log) == (code == 0, code == OVERDUE)
    if code == OVERDUE:
        [overdue] = [json.loads(line) for line in log.splitlines() if '"stop_overdue"' in line]
        assert any("_main > run > " in waits for waits in overdue["waits"].values())


async def holds_all_lanes(instance: Instance) -> bool:
    health = await instance.health()
    return health is not None and len(health["lanes"]) == topics.load()[0].partitions
