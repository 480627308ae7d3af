"""What every fault test stands on: processes that are told where to die, a load, and the proof at the end.

    async with under_load(ground, seed) as load:      # orders flow
        doomed = await ground.replace("billing", point="after-commit:2")
        await ground.died(doomed, "after-commit:2")   # the fault has happened
        await ground.start("billing")
    # here every order has ended as it may, everything is settled, and the audit is clean
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from infra.addresses import Addresses
from infra.stack import Stack
from pavane.audit import Report, audit
from pavane.given import LOCAL_GATEWAY
from pavane.instance import GATEWAY, Instance
from pavane.platform import Platform
from pavane.settled import wait_until_settled
from streams.kit.faultpoints import VARIABLE
from streams.kit.run import services
from streams.kit.shop import Shop
from tests.faults.load import Load
from tests.waiting import eventually

#: Orders of one load, at least; more of them come as long as the faults last.
ORDERS = 1_000
#: The shortest session that the broker allows, and outbox rows that are deleted soon: so that both are seen.
SETTINGS = {"PAVANE_SESSION_TIMEOUT_MS": "6000", "PAVANE_OUTBOX_KEEP_SECONDS": "1"}
DEATH_SECONDS = 45.0
TAKEN_OVER_SECONDS = 45.0
SETTLED_SECONDS = 90.0

ALL = os.environ.get("FAULTS") == "all"
"""Every fault, and not only the short set."""
LONG = pytest.mark.skipif(not ALL, reason="not in the short set: make faults")
#: One for the whole run: the processes of a run must collect the same tests.
FRESH_SEED = int(os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid4().hex, 16) % 10**6


def seeds() -> list[int]:
    """As many as SEEDS= says (default 1), the first of them SEED= or a new one; pytest prints it as the test's name."""
    first = int(os.environ.get("SEED") or FRESH_SEED)
    return [first + number for number in range(int(os.environ.get("SEEDS") or 1))]


class Ground:
    """A platform whose processes may be ended and replaced at will. What it starts ends with the platform."""

    def __init__(self, stack: Stack, platform: Platform, http: httpx.AsyncClient) -> None:
        self.stack = stack
        self.platform = platform
        self.http = http
        #: How many were placed here.
        self.orders = 0
        self._set_up_to_fail: set[int] = set()

    def running(self, service: str) -> list[Instance]:
        return [each for each in self.platform.children[service] if each.is_running]

    def launch(
        self, service: str, point: str = "", environment: Mapping[str, str] | None = None, module: Sequence[str] = ()
    ) -> Instance:
        """One more process of the service, coming up. `point`: where it dies, or freezes; `environment`: settings of
        its own; `module`: what runs it, with its words."""
        of_service = self.platform.children[service]
        number = len(of_service) + 1
        log_file = self.stack.data.path / "logs" / f"{service}-{number}.log"
        given = {**os.environ, **self.stack.addresses.environment(), **SETTINGS, "PAVANE_MANAGEMENT_PORT": "0"}
        if service == GATEWAY:
            # Where the customers know it, and taking the tokens that they have.
            given |= {"PAVANE_JWKS": str(self.stack.data.path / "jwks.json"), **LOCAL_GATEWAY}
            given |= {"PAVANE_GATEWAY_PORT": str(self.http.base_url.port)}
        instance = Instance(service, number, {**given, **(environment or {}), VARIABLE: point}, log_file, module)
        of_service.append(instance)
        if point or environment:
            self._set_up_to_fail.add(instance.pid)
        return instance

    async def replace(
        self, service: str, point: str = "", environment: Mapping[str, str] | None = None, module: Sequence[str] = ()
    ) -> Instance:
        """A new process of the service instead of those that run."""
        await asyncio.gather(*(each.stop() for each in self.running(service)))
        return self.launch(service, point, environment, module)

    async def ready(self, instance: Instance) -> None:
        """Wait until the process says that it misses nothing."""

        async def is_ready() -> bool:
            health = await instance.health()
            return health is not None and bool(health["ready"])

        await eventually(is_ready, TAKEN_OVER_SECONDS, f"{instance.label} is ready")

    async def died(self, instance: Instance, point: str) -> None:
        """Wait for the process to die of its fault point: by SIGKILL, and there."""
        code = await instance.child.wait(DEATH_SECONDS)
        assert code == -signal.SIGKILL, f"{instance.label} did not die at {point}, but: {code}"
        reached = f"fault point {point.partition(':')[0]} is reached"
        assert any(reached in line for line in instance.child.log_tail(50)), f"{instance.label}: not at {point}"

    async def epochs(self, service: str) -> dict[int, int]:
        """How often each lane of the service was taken over."""
        return dict(await self.rows(service, "SELECT partition, epoch FROM lanes"))

    async def until_taken_over(self, service: str, before: Mapping[int, int]) -> None:
        """Return when every lane has a new owner since `before`."""

        async def taken() -> bool:
            assert self.running(service), self.platform.children[service][-1].how_it_ended()
            now = await self.epochs(service)
            return all(now[lane] > epoch for lane, epoch in before.items())

        await eventually(taken, TAKEN_OVER_SECONDS, f"{service}: every lane has a new owner")

    async def rows(self, database: str, query: str, *values: object) -> list[tuple[int, int]]:
        return await _rows(self.stack.addresses.postgres[database], query, *values)

    async def made_whole(self) -> None:
        """One ordinary process of every service runs, and one gateway, and none misses anything, whatever the last test
        left: a server that is killed while a service comes up is another fault than the one that a test is about."""
        for service in (*services(), GATEWAY):
            running = self.running(service)
            if len(running) != 1 or running[0].pid in self._set_up_to_fail:
                await self.replace(service)
        await asyncio.gather(*(self.ready(self.running(service)[0]) for service in (*services(), GATEWAY)))


@asynccontextmanager
async def a_ground(stack: Stack) -> AsyncIterator[Ground]:
    """A platform of its own on this stack."""
    async with (
        Platform(stack, environment=SETTINGS) as platform,
        httpx.AsyncClient(base_url=platform.gateway_url, timeout=20.0) as http,
    ):
        yield Ground(stack, platform, http)


@asynccontextmanager
async def under_load(ground: Ground, seed: int, orders: int = ORDERS) -> AsyncIterator[Load]:
    """Orders flow while the block runs; at its end the faults are over. Then everything comes to rest, and is right."""
    shop = Shop(ground.http, ground.platform.issuer, f"shop-{uuid4().hex[:10]}", patience_seconds=DEATH_SECONDS)
    load = Load(shop, ground.stack.addresses.postgres["orders"], seed, orders)
    running = asyncio.create_task(load.run())
    try:
        yield load
        load.faults_are_over()
        await running
    finally:
        running.cancel()
        ground.orders += load.placed
    await prove(ground.stack.addresses, load, ground.stack.data.path / "audited")


async def prove(addresses: Addresses, load: Load, kept: Path | None = None) -> None:
    """Every order ended as it may, nothing is on its way any more, and no invariant is broken. `kept`: the audit goes
    on from there, and keeps there where it has come."""
    begun = time.monotonic()
    report = await audited_at_rest(addresses, kept)
    at_rest = time.monotonic() - begun - report.seconds
    wrong = load.wrong_ends()
    assert wrong == [], wrong
    assert report.verdict("orders-end").checked >= load.placed
    print(f"\n{load.told()}; at rest {at_rest:.1f} s later; {len(report.invariants)} invariants hold")  # noqa: T201


async def audited_at_rest(addresses: Addresses, kept: Path | None = None) -> Report:
    """Wait until nothing is on its way any more; no invariant is broken then."""
    await eventually(lambda: _nothing_to_retry(addresses), SETTLED_SECONDS, "no effect waits to be asked again")
    await wait_until_settled(addresses, SETTLED_SECONDS)
    report = await audit({**os.environ, **addresses.environment()}, kept)
    broken = {verdict.name: verdict.violations for verdict in report.verdicts if not verdict.clean}
    assert broken == {}, broken
    assert report.unsettled == 0, Counter({verdict.name: verdict.unsettled for verdict in report.verdicts})
    return report


async def _nothing_to_retry(addresses: Addresses) -> bool:
    query = "SELECT count(*), 0 FROM parked WHERE retry_at IS NOT NULL"
    return all([await _rows(addresses.postgres[name], query) == [(0, 0)] for name in services()])


async def _rows(url: str, query: str, *values: object) -> list[tuple[int, int]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode(), values)).fetchall()
