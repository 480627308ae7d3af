"""The only broker is killed, or has no room for its log, and comes back with all that it has acknowledged."""

import os

import pytest

from infra.kafka import Kafka
from streams.kit.run import services
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.faults.kafka_disk import LogFileLimit, SmallLogDisk
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


@pytest.fixture(params=["small disk", "file limit"])
def disk(request: pytest.FixtureRequest, broker: Kafka) -> SmallLogDisk | LogFileLimit:
    if request.param == "file limit":
        return LogFileLimit(broker)
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk of its own, small enough to be filled")
    return SmallLogDisk(broker)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_broker_without_room_for_its_log_ends_and_has_all_that_it_acknowledged_when_there_is_some(
    ground: Ground, broker: Kafka, disk: SmallLogDisk | LogFileLimit, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        async with disk.holds_log():
            await load.accepted(load.placed + FIRST_ORDERS)
            logged, asked_again = len(broker.log_file.read_text()), load.asked_again
            disk.fill()
            await eventually(lambda: not broker.is_running, SECONDS, "the broker ends")
            assert disk.words in broker.log_file.read_text()[logged:]
            await eventually(lambda: load.asked_again > asked_again, SECONDS, "orders are not taken")
            disk.give_room()
            await broker.start()
            for service in services():
                await ground.ready(ground.running(service)[0])
            ended = len(load.ended)
            await eventually(lambda: len(load.ended) >= ended + MEANWHILE, SECONDS, "orders end again")
