"""Three brokers, each partition kept by all of them: one that dies, falls behind or is restarted, and all at once."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from infra.kafka import Kafka
from infra.server import start_together
from infra.stack import Stack
from streams.kit.run import find, services
from tests.faults.cluster import Cluster
from tests.faults.harness import ALL, Ground, a_ground, seeds, under_load
from tests.faults.load import TILLS, Load
from tests.waiting import eventually

FIRST_ORDERS = 40
#: Orders that must be accepted, and as many that must end, while a broker is away.
MEANWHILE = 100
SECONDS = 60.0
DOWN_SECONDS = 30.0
#: Whose partition is the busy one.
TOPIC, PARTITION = "orders", 0
pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
async def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """A stack of its own: the tests' other one has one broker."""
    async with Stack(tmp_path_factory.mktemp("brokers"), brokers=3, environment={}) as stack, a_ground(stack) as ground:
        yield ground


@pytest.fixture
async def cluster(three_brokers: Ground) -> Cluster:
    """All three brokers run, and have everything."""
    cluster = Cluster(three_brokers.stack.addresses.kafka_bootstrap)
    await three_brokers.made_whole()
    await until_whole(cluster)
    return cluster


async def until_whole(cluster: Cluster) -> None:
    topics = sorted({topic for service in services() for topic in find(service).topics})
    await eventually(lambda: cluster.is_whole(topics), SECONDS, "every replica keeps up")


def broker(ground: Ground, node_id: int) -> Kafka:
    return ground.stack.kafka[node_id - 1]


async def orders_go_on(load: Load) -> None:
    """Orders are accepted and end, now."""
    ended = len(load.ended)
    await load.accepted(load.placed + MEANWHILE)
    await eventually(lambda: len(load.ended) >= ended + MEANWHILE, SECONDS, "orders end")


@pytest.mark.parametrize("seed", seeds())
async def test_a_leader_that_is_killed_is_followed_by_another_and_nothing_acknowledged_is_lost(
    three_brokers: Ground, cluster: Cluster, seed: int
) -> None:
    async with under_load(three_brokers, seed) as load:
        await load.accepted(FIRST_ORDERS)
        before, length = await cluster.leaders(TOPIC), await cluster.length(TOPIC)
        leader = broker(three_brokers, before[PARTITION])
        leader.kill()
        assert not leader.is_running

        async def moved() -> bool:
            now = await cluster.leaders(TOPIC)
            return now.keys() == before.keys() and not {leader.node_id, -1} & set(now.values())

        await eventually(moved, SECONDS, "all that it led is led by another")
        await orders_go_on(load)

        async def without_it() -> bool:
            in_sync = (await cluster.in_sync(TOPIC)).get(PARTITION)
            return in_sync is not None and leader.node_id not in in_sync and await cluster.length(TOPIC) > length

        await eventually(without_it, SECONDS, "the log has grown without that broker")
        await leader.start()
        await until_whole(cluster)


@pytest.mark.skipif(not ALL, reason="takes minutes: FAULTS=all")
@pytest.mark.parametrize("seed", seeds())
async def test_all_brokers_down_for_half_a_minute_are_a_pause_and_nothing_more(
    three_brokers: Ground, cluster: Cluster, seed: int
) -> None:
    async with under_load(three_brokers, seed) as load:
        await load.accepted(FIRST_ORDERS)
        for each in three_brokers.stack.kafka:
            each.kill()
        down_since = time.monotonic()
        # What was acknowledged just before is still told to its customers; then every till is refused, and asks again.
        asked_again = load.asked_again
        await eventually(lambda: load.asked_again >= asked_again + TILLS, DOWN_SECONDS, "customers are refused")
        accepted = load.placed
        await asyncio.sleep(max(0.0, down_since + DOWN_SECONDS - time.monotonic()))
        assert not any(each.is_running for each in three_brokers.stack.kafka)
        assert load.placed == accepted, "an order was accepted without a log"
        await start_together(three_brokers.stack.kafka)
        await until_whole(cluster)


@pytest.mark.skipif(not ALL, reason="takes minutes: FAULTS=all")
@pytest.mark.parametrize("seed", seeds())
async def test_brokers_that_are_restarted_one_after_the_other_are_no_orders_concern(
    three_brokers: Ground, cluster: Cluster, seed: int
) -> None:
    async with under_load(three_brokers, seed) as load:
        for each in three_brokers.stack.kafka:
            await load.accepted(load.placed + FIRST_ORDERS)
            before = each.pid
            await each.stop()
            await orders_go_on(load)
            await each.start()
            assert each.pid != before
            await until_whole(cluster)
