"""What a service says is written, and acknowledged late or never: it may be said again, and is heard once."""

import asyncio
import random
import signal
import time
from collections import Counter

import pytest

from infra.addresses import KAFKA
from streams.kit.run import find, services
from tests.faults.between import behind_proxy
from tests.faults.cluster import Appended, Cluster
from tests.faults.harness import ALL, Ground, seeds, under_load
from tests.faults.proxy import ANSWERS, Proxy
from tests.waiting import eventually

FIRST_ORDERS = 40
SECONDS = 60.0
#: Longer than a customer, a batch or a long poll waits; shorter than the session.
LATE_SECONDS = 3.0
#: Stalls until one of them comes between a read and the append that follows from it.
STALLS = 100
SAYS_WITHIN_SECONDS = 0.3
BETWEEN_STALLS_SECONDS = 0.1
SPEAKERS = [name for name in services() if find(name).says]
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not ALL, reason="long, and fault points show as much: make faults"),
    pytest.mark.parametrize("seed", seeds()),
    pytest.mark.parametrize("service", SPEAKERS),
]


async def test_facts_that_are_acknowledged_late_are_said_once(ground: Ground, service: str, seed: int) -> None:
    cluster = Cluster(ground.stack.addresses.kafka_bootstrap)
    since = await cluster.ends(service)
    async with behind_proxy(ground, service, KAFKA) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            await written_and_not_acknowledged(cluster, proxy, service)
            await asyncio.sleep(LATE_SECONDS)
            proxy.let_through()
        assert instance.is_running
    assert said_again(await cluster.records(service, since)) == []


async def test_facts_whose_acknowledgement_is_cut_off_are_sent_again_and_known_to_the_log(
    ground: Ground, service: str, seed: int
) -> None:
    """The producer is idempotent: the log takes its second try for what it is."""
    cluster = Cluster(ground.stack.addresses.kafka_bootstrap)
    since = await cluster.ends(service)
    async with behind_proxy(ground, service, KAFKA) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            await written_and_not_acknowledged(cluster, proxy, service)
            proxy.cut()
            await eventually(lambda: proxy.refused, SECONDS, "it tries to come back")
            proxy.let_through()
        assert instance.is_running
    assert said_again(await cluster.records(service, since)) == []


async def test_facts_whose_speaker_dies_before_they_are_acknowledged_are_said_again_and_heard_once(
    ground: Ground, service: str, seed: int
) -> None:
    """The successor finds them in the outbox, and cannot know that the log has them."""
    cluster = Cluster(ground.stack.addresses.kafka_bootstrap)
    since = await cluster.ends(service)
    async with behind_proxy(ground, service, KAFKA) as (proxy, instance), under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        await written_and_not_acknowledged(cluster, proxy, service)
        instance.kill()
        assert instance.child.poll() == -signal.SIGKILL
        before = await ground.epochs(service)
        ground.launch(service)
        await ground.until_taken_over(service, before)
    assert said_again(await cluster.records(service, since)) != [], "nothing was said twice"


async def written_and_not_acknowledged(cluster: Cluster, proxy: Proxy, service: str) -> None:
    """Return when the log has facts of this service whose acknowledgement is kept back."""
    for _ in range(STALLS):
        proxy.stall(ANSWERS)
        before = await cluster.length(service)
        # What it has heard already, it says now; after that it hears nothing more.
        seen_at = time.monotonic() + SAYS_WITHIN_SECONDS
        while time.monotonic() < seen_at:
            if await cluster.length(service) > before > 0:
                assert proxy.held[ANSWERS] > 0
                return
        proxy.let_through()
        await asyncio.sleep(random.uniform(0, BETWEEN_STALLS_SECONDS))
    raise AssertionError(f"none of {STALLS} stalls kept back an acknowledgement")


def said_again(appended: list[Appended]) -> list[bytes]:
    """Facts that the log has more than once."""
    return [fact for fact, times in Counter(each.id for each in appended).items() if times > 1]
