"""The only broker is killed and comes back with all that it has acknowledged."""

import pytest

from infra.kafka import Kafka
from streams.kit.run import services
from tests.faults.harness import Ground, seeds, under_load
from tests.waiting import eventually

FIRST_ORDERS = 40
MEANWHILE = 100
SECONDS = 60.0
ROUNDS = 2
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def broker(ground: Ground) -> Kafka:
    if not ground.stack.kafka:
        pytest.skip("the broker is not ours to kill")
    [broker] = ground.stack.kafka
    return broker


@pytest.mark.parametrize("seed", seeds())
async def test_a_broker_that_is_killed_has_all_that_it_acknowledged_when_it_is_back(
    ground: Ground, broker: Kafka, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        for _ in range(ROUNDS):
            await load.accepted(load.placed + MEANWHILE)
            asked_again = load.asked_again
            broker.kill()
            assert not broker.is_running
            await eventually(lambda before=asked_again: load.asked_again > before, SECONDS, "orders are not taken")
            await broker.start()
            for service in services():
                await ground.ready(ground.running(service)[0])
            ended = len(load.ended)
            await eventually(lambda before=ended: len(load.ended) >= before + MEANWHILE, SECONDS, "orders end again")
