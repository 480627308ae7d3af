"""A service's clock is set forward and back while orders flow: facts are dated wrongly, and nothing else is wrong."""

import asyncio
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from streams.kit.run import find, services
from tests.faults.harness import ALL, Ground, seeds, under_load
from tests.faults.wrong_clock import VARIABLE, set_clock
from tests.waiting import eventually

FIRST_ORDERS = 40
SECONDS = 60.0
FIVE_MINUTES = 300.0
#: Further than any order may wait; and further ahead than a broker would take facts by default.
BEYOND_DEADLINES = (1_200.0, 7_200.0)
ENDED_BETWEEN_JUMPS = 100
#: Dated by a clock that is wrong by minutes, a fact is at most so much off the minutes.
EXACT_SECONDS = 60.0
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not ALL, reason="the kit shows what a clock that is set back must not do: make faults"),
]


async def with_wrong_clock(ground: Ground, service: str, file: Path, seconds: float = 0.0) -> None:
    """The service's only process goes by that file."""
    set_clock(file, seconds)
    before = await ground.epochs(service)
    module = ["tests.faults.wrong_clock", service]
    await ground.replace(service, environment={VARIABLE: str(file)}, module=module)
    await ground.until_taken_over(service, before)


async def jump(ground: Ground, service: str, file: Path, seconds: float) -> None:
    """Return when the service dates its facts so."""
    set_clock(file, seconds)

    async def is_dated_so() -> bool:
        newest = await asyncio.to_thread(newest_fact, ground.stack.addresses.kafka_bootstrap, service)
        return any(abs(at - time.time() - seconds) < EXACT_SECONDS for at in newest)

    await eventually(is_dated_so, SECONDS, f"{service} says facts by a clock that is {seconds:.0f} s wrong")


def newest_fact(bootstrap: str, topic: str) -> list[float]:
    """When the last fact of each lane was said, by its speaker's clock."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 0}
    )
    try:
        last = []
        for partition in consumer.list_topics(topic, SECONDS).topics[topic].partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), SECONDS)
            if end:
                consumer.assign([TopicPartition(topic, partition, end - 1)])
                last += consumer.consume(1, SECONDS)
        return [record.timestamp()[1] / 1000 for record in last]
    finally:
        consumer.close()


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", [name for name in services() if find(name).says])
async def test_a_clock_that_jumps_by_five_minutes_forward_and_back_changes_no_end(
    ground: Ground, tmp_path: Path, service: str, seed: int
) -> None:
    file = tmp_path / "clock"
    await with_wrong_clock(ground, service, file)
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        for seconds in (FIVE_MINUTES, -FIVE_MINUTES, 0.0):
            await jump(ground, service, file, seconds)
            enough = len(load.ended) + ENDED_BETWEEN_JUMPS
            await eventually(lambda least=enough: len(load.ended) > least, SECONDS, "orders end all the same")


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("seconds", BEYOND_DEADLINES)
async def test_deadlines_that_pass_too_early_cancel_orders_and_undo_all_that_was_done_for_them(
    ground: Ground, tmp_path: Path, seconds: float, seed: int
) -> None:
    file = tmp_path / "clock"
    await with_wrong_clock(ground, "orders", file)
    async with under_load(ground, seed) as load:
        load.allowed_ends = frozenset({"DEADLINE"})
        await load.accepted(FIRST_ORDERS)
        await jump(ground, "orders", file, seconds)
        await eventually(lambda: "DEADLINE" in load.ended.values(), SECONDS, "a deadline has passed too early")
        await jump(ground, "orders", file, 0.0)
