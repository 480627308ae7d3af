"""Three brokers, each partition kept by all of them: one that dies, falls behind or is restarted, and all at once."""

import time
from collections.abc import AsyncIterator

import psutil
import pytest

from infra.kafka import Kafka
from infra.server import start_together
from infra.stack import Stack
from pavane.instance import GATEWAY
from streams.kit.run import find, services
from tests.faults.cluster import Cluster
from tests.faults.harness import LONG, Ground, a_ground, seeds, under_load
from tests.faults.load import TILLS, Load
from tests.waiting import eventually

FIRST_ORDERS = 40
#: Orders that must be accepted, and as many that must end, while a broker is away.
MEANWHILE = 100
SECONDS = 60.0
DOWN_SECONDS = 30.0
#: A broker that stands still keeps its connections: each request to it is given up after two sessions (20 s), one for
#: the records and perhaps one for who leads them now, and a service hears and says in turn.
STANDING_STILL_SECONDS = 180.0
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
    for node in three_brokers.stack.kafka:
        node.resume()
        if not node.is_running:
            await node.start()
    await three_brokers.made_whole()
    await until_whole(cluster)
    return cluster


async def until_whole(cluster: Cluster) -> None:
    topics = sorted({topic for service in services() for topic in find(service).topics})
    await eventually(lambda: cluster.is_whole(topics), SECONDS, "every replica keeps up")


def broker(ground: Ground, node_id: int) -> Kafka:
    return ground.stack.kafka[node_id - 1]


async def orders_go_on(load: Load, within_seconds: float = SECONDS) -> None:
    """Orders are accepted and end, now."""
    ended = len(load.ended)
    await load.accepted(load.placed + MEANWHILE)
    await eventually(lambda: len(load.ended) >= ended + MEANWHILE, within_seconds, "orders end")


@LONG
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
            now, in_sync = await cluster.leaders(TOPIC), await cluster.in_sync(TOPIC)
            led = now.keys() == before.keys() and not {leader.node_id, -1} & set(now.values())
            return led and PARTITION in in_sync and leader.node_id not in in_sync[PARTITION]

        async def longer() -> bool:
            return await cluster.length(TOPIC) > length

        await eventually(moved, SECONDS, "all that it led is led by another")
        await orders_go_on(load)
        await eventually(longer, SECONDS, "the log goes on")
        await leader.start()
        await until_whole(cluster)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_follower_that_falls_behind_is_not_waited_for_and_catches_up(
    three_brokers: Ground, cluster: Cluster, seed: int
) -> None:
    async with under_load(three_brokers, seed) as load:
        await load.accepted(FIRST_ORDERS)
        leader = (await cluster.leaders(TOPIC))[PARTITION]
        follower = next(node for node in three_brokers.stack.kafka if node.node_id != leader)
        others = Cluster(broker(three_brokers, leader).address)
        follower.pause()
        try:

            async def fell_behind() -> bool:
                in_sync = await others.in_sync(TOPIC)
                return PARTITION in in_sync and follower.node_id not in in_sync[PARTITION]

            await eventually(fell_behind, SECONDS, "it is not in sync")
            assert psutil.Process(follower.pid).status() == psutil.STATUS_STOPPED
            await orders_go_on(load, STANDING_STILL_SECONDS)
        finally:
            follower.resume()
        await until_whole(cluster)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_orders_are_refused_while_every_broker_is_down_and_go_on_when_they_are_back(
    three_brokers: Ground, cluster: Cluster, seed: int
) -> None:
    nodes = three_brokers.stack.kafka
    async with under_load(three_brokers, seed) as load:
        await load.accepted(FIRST_ORDERS)
        for node in nodes:
            node.kill()
        assert not any(node.is_running for node in nodes)
        down = time.monotonic()
        try:
            # What was acknowledged just before is still told to its customers; then every till is refused.
            asked_again = load.asked_again
            await eventually(lambda: load.asked_again >= asked_again + TILLS, SECONDS, "orders are not taken")
            accepted = load.placed
            [gateway] = three_brokers.running(GATEWAY)
            health = await gateway.health()
            assert health is not None and not health["ready"]
            await eventually(lambda: time.monotonic() - down > DOWN_SECONDS, 2 * DOWN_SECONDS)
            assert load.placed == accepted, "an order was accepted that no log has"
        finally:
            await start_together(nodes)
        await until_whole(cluster)
        await orders_go_on(load)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_brokers_that_are_restarted_one_after_the_other_stop_no_order(
    three_brokers: Ground, cluster: Cluster, seed: int
) -> None:
    async with under_load(three_brokers, seed) as load:
        await load.accepted(FIRST_ORDERS)
        for node in three_brokers.stack.kafka:
            old = node.pid
            await node.stop()
            assert not psutil.pid_exists(old)
            await orders_go_on(load)
            await node.start()
            await until_whole(cluster)
