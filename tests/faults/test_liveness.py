"""A process that hangs or gets nowhere is seen, one that is asked to end ends in time, and no order is lost by it."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import psycopg
import pytest
from structlog.testing import capture_logs

from infra import topics
from infra.processes import Child
from infra.stack import Stack
from pavane.audit import audit
from pavane.console import INTERRUPTED
from pavane.instance import GATEWAY, Instance
from pavane.platform import Platform
from streams.kit import management
from streams.kit.ending import OVERDUE
from streams.kit.management import Management
from streams.kit.run import services
from streams.kit.shop import Order, Shop
from tests.kit import conftest as kit
from tests.kit.running import KEYS, Counting
from tests.kit.running import Instance as Working
from tests.stories.records import Records
from tests.waiting import eventually

counter_database, database, counting = kit.counter_database, kit.database, kit.counting

ENDS_WITHIN_SECONDS = 10.0
ORDERS = 1_000
TILLS = 8
#: Orders that are accepted in a round before its processes are asked to end: the others come while they do.
BEFORE_THE_RESTART = 20


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
ending.ENDS_WITHIN_SECONDS = 0.3
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


async def holds_all_lanes(instance: Instance) -> bool:
    health = await instance.health()
    return health is not None and len(health["lanes"]) == topics.load()[0].partitions


# -- and no order notices ------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_shop(platform: Platform) -> AsyncIterator[Shop]:
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=20.0) as http:
        yield Shop(http, platform.issuer, f"shop-{uuid4().hex[:10]}", patience_seconds=90.0)


class Sale:
    """Customers at several tills; every tenth card is declined, and as many parcels go where no carrier goes."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.orders: dict[int, Order] = {}

    async def sell(self, numbers: Iterable[int]) -> None:
        waiting = iter(numbers)
        async with asyncio.TaskGroup() as group:
            for _ in range(TILLS):
                group.create_task(self._serve(waiting))

    async def _serve(self, waiting: Iterable[int]) -> None:
        for number in waiting:
            method = "declined" if number % 10 == 0 else "ok"
            country = "XX" if number % 10 == 5 else "DE"
            self.orders[number] = await self._shop.place(sku="lamp", method=method, country=country)


async def restart(platform: Platform, old: Instance) -> float:
    """A new process for an old one that is asked to end; how long the old one took to end."""
    begun = time.monotonic()
    code = await old.stop()
    took = time.monotonic() - begun
    assert code == 0, f"{old.label}: {code}, {old.child.log_tail()}"
    await platform.start(old.name)
    return took


async def test_a_rolling_restart_of_every_service_under_load_loses_no_order(stack: Stack) -> None:
    names, records = services(), Records(stack.addresses.postgres)
    async with Platform(stack, dict.fromkeys(names, 2)) as platform, a_shop(platform) as shop:
        await shop.price("lamp", 1999)
        await shop.receive("lamp", ORDERS)
        sale, caught = Sale(shop), 0
        olds = {name: tuple(platform.children[name]) for name in names}
        for number in (0, 1):
            selling = asyncio.create_task(sale.sell(range(number * ORDERS // 2, (number + 1) * ORDERS // 2)))
            sold = len(sale.orders)
            await eventually(lambda sold=sold: len(sale.orders) >= sold + BEFORE_THE_RESTART)
            caught += await records.open_orders(shop.tenant)
            took = await asyncio.gather(*(restart(platform, olds[name][number]) for name in names))
            assert max(took) < ENDS_WITHIN_SECONDS
            await selling
        assert caught > 0, "no order was under way when the processes ended"
        assert not any(old.is_running for pair in olds.values() for old in pair)

        endings = {number: await shop.settled(order) for number, order in sale.orders.items()}
        assert len(endings) == ORDERS
        assert Counter(each.reason for each in endings.values()) == {
            "": ORDERS * 8 // 10, "PAYMENT_DECLINED": ORDERS // 10, "NOT_SHIPPABLE": ORDERS // 10
        }  # fmt: skip
        assert all(len(each.facts) == len(set(each.facts)) for each in endings.values()), "a fact was said twice"
        await nothing_is_broken(platform, stack)


async def test_what_dies_or_stands_still_is_started_again_and_the_orders_go_on(stack: Stack) -> None:
    said: list[str] = []
    async with Platform(stack) as platform, a_shop(platform) as shop:
        supervising = asyncio.create_task(platform.supervise(said.append))
        await shop.price("lamp", 1999)
        await shop.receive("lamp", 10)
        url = platform.gateway_url
        dead = [platform.children[name][0] for name in ("billing", GATEWAY)]
        for instance in dead:
            os.kill(instance.pid, signal.SIGKILL)
        for instance in dead:
            await eventually(lambda it=instance: f"{it.label} runs again" in "\n".join(said), 30)
            assert instance.child.poll() == -signal.SIGKILL
            assert platform.children[instance.name][1].label == instance.label
        assert platform.gateway_url == url
        order = await shop.place(sku="lamp")
        assert await shop.status(order) == "confirmed"
        assert not supervising.done()
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)
        await nothing_is_broken(platform, stack)
    assert "was ended by signal 9" in "\n".join(said)


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


async def nothing_is_broken(platform: Platform, stack: Stack) -> None:
    await platform.settled()
    report = await audit({**os.environ, **stack.addresses.environment()})
    assert {verdict.name: verdict.violations for verdict in report.verdicts if not verdict.clean} == {}
    assert report.unsettled == 0
    assert report.verdict("orders-end").checked > 0
