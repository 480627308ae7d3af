"""The gateway dies in the middle of requests: customers ask again, and no order is placed twice or forgotten."""

import random
import signal
from collections import Counter

import pytest

from infra.addresses import KAFKA
from pavane.instance import GATEWAY, Instance
from tests.faults.between import proxied
from tests.faults.cluster import Cluster, Ends
from tests.faults.harness import ALL, Ground, seeds, under_load
from tests.faults.load import Load
from tests.faults.proxy import ANSWERS
from tests.waiting import eventually

TOPIC = "orders.requests"
FIRST_ORDERS = 40
MEANWHILE = 100
ROUNDS = 5
SECONDS = 60.0
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("seed", seeds())
async def test_a_request_that_was_written_when_the_gateway_died_is_asked_again_and_placed_once(
    ground: Ground, seed: int
) -> None:
    """The log has acknowledged it, the gateway never heard so, and the customer was never answered."""
    cluster = Cluster(ground.stack.addresses.kafka_bootstrap)
    since = await cluster.ends(TOPIC)
    async with proxied(ground, KAFKA) as (proxy, through):
        await ground.ready(await ground.replace(GATEWAY, environment=through))
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            proxy.stall(ANSWERS)
            await eventually(lambda: proxy.held[ANSWERS] > 0, SECONDS, "an acknowledgement is kept back")
            await kill_and_start_again(ground, load)
    twice = {key.decode() for key, times in Counter(await placed(cluster, since)).items() if times > 1}
    assert twice, "nothing was written that was asked again"
    assert twice <= load.kinds.keys()
    assert load.ended.keys() == load.kinds.keys(), "there are other orders than the customers know of"


async def placed(cluster: Cluster, since: Ends) -> list[bytes]:
    """The orders that requests to place them name, as often as they do."""
    return [request.key for request in await cluster.records(TOPIC, since) if request.type == b"PlaceOrder"]


@pytest.mark.skipif(not ALL, reason="the other shows the worst moment of it: make faults")
@pytest.mark.parametrize("seed", seeds())
async def test_a_gateway_that_is_killed_again_and_again_forgets_no_order_that_it_accepted(
    ground: Ground, seed: int
) -> None:
    moments = random.Random(seed)
    async with under_load(ground, seed) as load:
        for _ in range(ROUNDS):
            await load.accepted(load.placed + moments.randrange(10, 200))
            await kill_and_start_again(ground, load)
    assert load.ended.keys() == load.kinds.keys(), "there are other orders than the customers know of"


async def kill_and_start_again(ground: Ground, load: Load) -> Instance:
    """Kill it; a new one takes orders, also from those who were not answered."""
    [gateway] = ground.running(GATEWAY)
    asked_again = load.asked_again
    gateway.kill()
    assert gateway.child.poll() == -signal.SIGKILL
    await eventually(lambda: load.asked_again > asked_again, SECONDS, "somebody is not answered, and asks again")
    instance = ground.launch(GATEWAY)
    await ground.ready(instance)
    await load.accepted(load.placed + MEANWHILE)
    return instance
