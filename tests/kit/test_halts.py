"""Where the log and the database disagree, the worker stops that lane, says why, and goes on with the others."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from msgspec.structs import replace

from streams.kit import envelope
from streams.kit.errors import LogShorter
from streams.kit.log import Record
from streams.kit.management import Management
from tests.conftest import NewTopics
from tests.kit.running import PARTITIONS, Counting, Instance
from tests.waiting import eventually

CAUSE = envelope.of_request("r", 0, 0, ())


def key_of(counting: Counting, partition: int) -> str:
    """A counter that is at home in that lane."""
    return next(key for key in map(str, range(100)) if counting.partition(key) == partition)


def told(counting: Counting, sequence: int) -> Record:
    headers = envelope.write(counting.counter.left, 0, sequence, "Told", {}, CAUSE)
    return Record(counting.counter.left, 0, 0, 0, b"k", counting.counter.told("k", 10**sequence), headers)


async def health(instance: Instance) -> tuple[int, dict[str, Any]]:
    """What the instance's management port answers to /health/ready."""
    management = Management("127.0.0.1", 0, instance.readiness)
    try:
        return await asyncio.to_thread(_get, f"http://{management.address}/health/ready")
    finally:
        management.close()


def _get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


async def halted(counting: Counting, instance: Instance) -> str:
    """Why lane 0 is halted, as the port says it, once it is; the other lane must go on."""
    await eventually(lambda: 0 in instance.worker.halted)
    status, state = await health(instance)
    assert (status, state["ready"], list(state["halted"])) == (503, False, ["0"])
    other = key_of(counting, 1)
    before = (await counting.totals()).get(other, 0)
    await counting.ask((other, 5))
    await eventually(lambda: _has(counting, other, before + 5))
    assert 1 in instance.lanes
    return str(state["halted"]["0"])


async def _has(counting: Counting, key: str, total: int) -> bool:
    return (await counting.totals()).get(key) == total


async def heard_and_stopped(counting: Counting) -> str:
    """A counter of lane 0 to which 3 was added; then the only instance has stopped."""
    key = key_of(counting, 0)
    instance = await counting.start()
    await counting.ask((key, 1), (key, 1), (key, 1))
    await counting.until_totals({key: 3})
    await instance.stop()
    counting.instances.clear()
    return key


async def made_again(admin: AdminClient, new_topics: NewTopics, topic: str) -> None:
    """Somebody deletes the topic, with all that is in it, and makes it again."""
    await done(admin.delete_topics([topic]))
    await eventually(lambda: topic not in admin.list_topics(timeout=10).topics)
    await new_topics(topic, partitions=PARTITIONS)


async def done(futures: dict[Any, Any]) -> None:
    for future in futures.values():
        await asyncio.to_thread(future.result, 20)


@pytest.fixture
def admin(counting: Counting) -> AdminClient:
    return AdminClient({"bootstrap.servers": counting.bootstrap, "log_level": 0})


async def test_a_missing_fact_halts_its_lane_after_what_came_before_it(counting: Counting) -> None:
    instance = await counting.start()
    await counting.send(told(counting, 1), told(counting, 3))
    why = await halted(counting, instance)
    assert (
        f"{counting.counter.left}/0 offset 1: sequence 3 follows 1: 1 facts of {counting.counter.left} are missing"
        in why
    )
    assert (await counting.totals())["k"] == 10
    [(positions,)] = await counting.rows("SELECT positions FROM lanes WHERE partition = 0")
    assert positions[counting.counter.left] == 1


@pytest.mark.parametrize(
    ("headers", "words"),
    [((), "it has no envelope of ours"), (envelope.write("x", 0, 1, "Told", {}, CAUSE), "it says that it is x/0/1")],
    ids=["without an envelope", "of another speaker"],
)
async def test_a_record_of_somebody_else_on_a_single_writer_topic_halts_its_lane(
    counting: Counting, headers: Sequence[tuple[str, bytes]], words: str
) -> None:
    instance = await counting.start()
    await counting.send(told(counting, 1), replace(told(counting, 2), headers=headers))
    why = await halted(counting, instance)
    assert words in why
    assert f"Only the service {counting.counter.left} may write here" in why
    assert (await counting.totals())["k"] == 10


async def test_records_that_retention_took_before_they_were_heard_halt_the_lane(
    counting: Counting, admin: AdminClient
) -> None:
    key = await heard_and_stopped(counting)
    topic = counting.counter.requests
    await counting.ask((key, 1), (key, 1), (key, 1))
    await done(admin.delete_records([TopicPartition(topic, 0, 5)]))
    instance = await counting.start()
    why = await halted(counting, instance)
    assert f"{topic}/0: next to hear is offset 3, but the log starts at 5: 2 records are gone" in why
    assert (await counting.totals())[key] == 3


async def test_a_log_that_lost_what_was_heard_halts_the_lane(
    counting: Counting, admin: AdminClient, new_topics: NewTopics
) -> None:
    key = await heard_and_stopped(counting)
    topic = counting.counter.requests
    await made_again(admin, new_topics, topic)
    instance = await counting.start()
    why = await halted(counting, instance)
    assert f"{topic}/0: offset 3 was heard, but the log ends at 0: the broker lost 3 records" in why
    assert (await counting.totals())[key] == 3


@pytest.mark.parametrize(
    ("topic", "command"),
    [
        ("orders", "pavane log restore orders --reason"),
        ("orders.requests", "pavane lanes skip orders 2 orders.requests"),
    ],
)  # fmt: skip
def test_a_log_that_lost_its_end_names_a_command_that_does_something_about_that_topic(topic: str, command: str) -> None:
    said = str(LogShorter("orders", topic, 2, 9, 4))

    assert command in said
    assert "log restore orders.requests" not in said



async def test_topics_that_have_all_grown_halt_nothing_and_make_no_lane(
    counting: Counting, admin: AdminClient
) -> None:
    key = await heard_and_stopped(counting)
    await done(admin.create_partitions([NewPartitions(topic, PARTITIONS + 1) for topic in counting.counter.topics]))
    instance = await counting.start()
    await eventually(lambda: instance.lanes == set(range(PARTITIONS)))
    await counting.ask((key, 10))
    await counting.until_totals({key: 13})
    assert instance.worker.halted == {}
    assert set(await counting.epochs()) == set(range(PARTITIONS))


async def test_an_instance_that_takes_a_halted_lane_over_halts_it_too(counting: Counting) -> None:
    first = await counting.start()
    await counting.send(told(counting, 2))
    await eventually(lambda: 0 in first.worker.halted)
    await first.stop()
    counting.instances.clear()
    second = await counting.start()
    assert "sequence 2 follows 0" in await halted(counting, second)
