"""What a saga costs in things that can be counted, whatever the machine: no time is measured.

How much there is to hear at once depends on the machine, and with it how many batches there are. So only one service
runs at a time, in turn, each until it has heard everything; the others are frozen. Every batch is then as full as it
may be, and the same orders make nearly the same batches anywhere. Each service's database is behind a proxy that counts
round trips; statements, commits and log bytes are those of the whole server, with provider's and carrier's.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import psycopg

from infra.addresses import database_variable
from infra.stack import Stack
from pavane.bench import database, log, proof
from pavane.bench.counting import CountingProxy
from pavane.bench.ground import Ground
from pavane.bench.log import Looker
from pavane.bench.workload import Workload
from pavane.instance import Instance
from pavane.platform import Platform
from streams.kit.run import find, services

#: A frozen service must not lose its lanes, and must not look for deadlines the more often the slower the machine is.
SETTINGS = {"PAVANE_BATCH_RECORDS": "50", "PAVANE_DUE_POLL_SECONDS": "5", "PAVANE_SESSION_TIMEOUT_MS": "600000"}
TURN = ("orders", "inventory", "shipping", "billing")
TURN_SECONDS = 120.0
BETWEEN_LOOKS_SECONDS = 0.05


class Counts(NamedTuple):
    """Of one saga. `by_statement`: executions a saga, by database and statement, the most frequent first."""

    statements: float
    commits: float
    round_trips: float
    wal_bytes: float
    log_bytes: float
    by_statement: Mapping[tuple[str, str], float]

    def figures(self) -> dict[str, float]:
        """What has a budget."""
        return {name: round(getattr(self, name), 3) for name in self._fields if name != "by_statement"}


async def count(folder: Path, orders: int) -> Counts:
    """Let so many orders be worked off on a fresh stack. Raises `NotProven` when something does not come out right."""
    async with Stack(folder) as stack:
        with ExitStack() as exits:
            proxies = {name: CountingProxy(stack.addresses.postgres[name]) for name in services()}
            through = {database_variable(name): exits.enter_context(proxy).url for name, proxy in proxies.items()}
            async with Platform(stack, environment={**through, **SETTINGS}) as platform:
                return await _count(Ground(stack, platform), Workload("counted", orders), proxies)


async def _count(ground: Ground, workload: Workload, proxies: Mapping[str, CountingProxy]) -> Counts:
    await ground.fill(workload)
    running = {name: ground.platform.children[name][-1] for name in services()}
    for each in running.values():
        each.freeze()
    try:
        await log.put(ground.addresses, workload.requests())
        await asyncio.to_thread(database.checkpoint, ground.addresses.postgres_admin)
        before, bytes_before = await asyncio.to_thread(ground.look), _bytes(ground)
        trips_before = sum(proxy.round_trips for proxy in proxies.values())
        await _in_turn(ground, running)
        after, bytes_after = await asyncio.to_thread(ground.look), _bytes(ground)
        trips = sum(proxy.round_trips for proxy in proxies.values()) - trips_before
    finally:
        for each in running.values():
            each.thaw()
    await proof.check_ends(ground.addresses, workload.tenant, workload.orders)
    await proof.check_invariants(ground.platform)
    use = await asyncio.to_thread(ground.used, before, after)
    return _counts(use, len(workload.orders), trips, bytes_after - bytes_before)


async def _in_turn(ground: Ground, running: Mapping[str, Instance]) -> None:
    """One service after the other until none has anything to hear any more; those that say nothing come last."""
    looker = Looker(ground.addresses.kafka_bootstrap)
    ends = None
    while ends != (ends := await asyncio.to_thread(looker.ends)):
        for name in TURN:
            await _one_turn(ground, looker, name, running[name])
    for name in services():
        if name not in TURN:
            await _one_turn(ground, looker, name, running[name])


async def _one_turn(ground: Ground, looker: Looker, name: str, instance: Instance) -> None:
    service = find(name)
    instance.thaw()
    deadline = time.monotonic() + TURN_SECONDS
    async with await psycopg.AsyncConnection.connect(ground.addresses.postgres[name], autocommit=True) as connection:
        while True:
            ends = await asyncio.to_thread(looker.ends)
            lanes = await (await connection.execute("SELECT partition, positions, clock FROM lanes")).fetchall()
            heard = all(
                positions.get(topic, 0) >= ends[topic, lane] for lane, positions, _ in lanes for topic in service.topics
            )
            said = all(clock.get(name, 0) <= ends.get((name, lane), 0) for lane, _, clock in lanes if service.says)
            if heard and said:
                break
            if time.monotonic() > deadline:
                raise proof.NotProven(f"{name} has not heard everything within {TURN_SECONDS:.0f} seconds")
            await asyncio.sleep(BETWEEN_LOOKS_SECONDS)
    instance.freeze()


def _bytes(ground: Ground) -> int:
    found = log.bytes_on_disk(ground.stack.data.path, log.topics())
    assert found is not None, "not an embedded Kafka"
    return found


def _counts(use: database.Use, orders: int, round_trips: int, log_bytes: int) -> Counts:
    own = {(where, statement): calls for (where, statement), calls in use.calls.items() if not _is_ours(statement)}
    assert own, "pg_stat_statements is missing"
    assert use.commits is not None, "pg_walinspect is missing"
    assert use.wal_record_bytes is not None, "pg_walinspect is missing"
    return Counts(
        statements=sum(own.values()) / orders,
        commits=use.commits / orders,
        round_trips=round_trips / orders,
        wal_bytes=use.wal_record_bytes / orders,
        log_bytes=log_bytes / orders,
        by_statement={at: calls / orders for at, calls in sorted(own.items(), key=lambda item: -item[1])},
    )


def _is_ours(statement: str) -> bool:
    """It is what `_one_turn` asks."""
    return statement == "SELECT partition, positions, clock FROM lanes"
