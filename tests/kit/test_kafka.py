"""The log on a real Kafka: order within a lane, whole lanes, positions that are ours, and a broker that goes away."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, UnknownMemberIdError
from aiokafka.protocol.metadata import MetadataRequest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from infra.stack import Stack
from streams.kit import kafka, outbox
from streams.kit.errors import PartitionsChanged, WrongSetting
from streams.kit.kafka import REQUEST_BYTES, KafkaLog, hear_late_errors, partition_of
from streams.kit.log import Extent, ToSay
from streams.kit.outbox import Outbox
from tests.conftest import NewTopics
from tests.kit import reading
from tests.waiting import eventually

SESSION_MS = 6_000
NewLog = Callable[..., Awaitable[KafkaLog]]


@pytest.fixture
def bootstrap(stack: Stack) -> str:
    return stack.addresses.kafka_bootstrap


@pytest.fixture
async def new_log(bootstrap: str, new_name: str) -> AsyncIterator[NewLog]:
    """Opens clients of one group, each as an instance of one service has it."""
    opened: list[KafkaLog] = []

    async def new(*topics: str, lanes: int | None = None) -> KafkaLog:
        log = KafkaLog(bootstrap, new_name, topics, SESSION_MS)
        opened.append(log)
        await log.open(lanes)
        return log

    yield new
    await asyncio.gather(*(log.close() for log in opened))


def to_say(topic: str, number: int, size: int = 0) -> ToSay:
    return ToSay(topic, 1_700_000_000_000 + number, b"k", b"%06d" % number + b"." * size, [("h", b"%d" % number)])


async def values(bootstrap: str, topic: str, partitions: int = 2) -> list[list[bytes]]:
    return [[record.value for record in each] for each in await reading.records(bootstrap, topic, partitions)]


# -- saying ------------------------------------------------------------------------------------------------------------


async def test_what_is_appended_keeps_its_order_in_each_lane(
    bootstrap: str, new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    letters = f"{new_name}.dead-letters"
    await new_topics(new_name, letters)
    log = await new_log(new_name)
    for first in range(0, 100, 20):
        facts = [to_say(letters if number % 10 == 3 else new_name, number) for number in range(first, first + 20)]
        await asyncio.gather(log.append(0, facts), log.append(1, facts[::-1]))

    said, aside = await values(bootstrap, new_name), await values(bootstrap, letters)
    assert said[0] == [b"%06d" % number for number in range(100) if number % 10 != 3]
    assert aside[0] == [b"%06d" % number for number in range(100) if number % 10 == 3]
    assert sorted(said[1]) == said[0]


async def test_records_are_appended_with_key_time_and_headers_as_given(
    bootstrap: str, new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name)
    await (await new_log(new_name)).append(1, [to_say(new_name, 7), ToSay(new_name, 5, None, b"", ())])
    _, [first, second] = await reading.records(bootstrap, new_name, 2)
    assert (first.key, first.timestamp, first.headers) == (b"k", 1_700_000_000_007, (("h", b"7"),))
    assert (second.key, second.value, second.headers) == (None, b"", ())


async def test_more_than_one_request_holds_is_appended_in_order(
    bootstrap: str, new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name)
    facts = [to_say(new_name, number, size=REQUEST_BYTES // 5) for number in range(12)]
    await (await new_log(new_name)).append(0, facts)
    assert (await values(bootstrap, new_name))[0] == [fact.value for fact in facts]


async def test_an_append_that_the_broker_refuses_is_told_and_the_next_one_begins_anew(
    bootstrap: str, new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name, max_message_bytes="2000")
    log = await new_log(new_name)
    await log.append(0, [to_say(new_name, 1)])
    with pytest.raises(MessageSizeTooLargeError):
        await log.append(0, [to_say(new_name, 2), to_say(new_name, 3, size=3000)])
    await log.append(0, [to_say(new_name, 2), to_say(new_name, 4)])
    assert (await values(bootstrap, new_name))[0] == [b"000001", b"000002", b"000004"]


# -- owning ------------------------------------------------------------------------------------------------------------


async def test_members_of_a_group_share_whole_lanes_and_let_go_before_they_are_given_again(
    new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    topics = [f"{new_name}-a", f"{new_name}-b"]
    await new_topics(*topics, partitions=4)
    first = await new_log(*topics)
    await eventually(lambda: set(first.assigned()) == {0, 1, 2, 3})
    before = first.assigned()
    held_when_asked: list[Any] = []

    async def let_go() -> None:
        held_when_asked.append(dict(first.assigned()))

    first.let_go = let_go
    second = await new_log(*topics)
    await eventually(lambda: len(first.assigned()) == len(second.assigned()) == 2)

    assert set(first.assigned()) | set(second.assigned()) == {0, 1, 2, 3}
    assert held_when_asked == [{}]
    assert min(first.assigned().values()) > max(before.values()), "a lane given again must be seen to be new"
    await second.close()
    await eventually(lambda: set(first.assigned()) == {0, 1, 2, 3})
    assert held_when_asked == [{}, {}]


async def test_a_lane_of_which_somebody_else_has_a_part_is_not_taken_and_told(
    new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    topics = [f"{new_name}-a", f"{new_name}-b"]
    await new_topics(*topics)
    with capture_logs() as lines:
        both, one = await new_log(*topics), await new_log(topics[0])
        await eventually(lambda: len(both.assigned()) == len(one.assigned()) == 1)
        await eventually(lambda: [line for line in lines if line["event"] == "lanes_split"])
    assert set(both.assigned()) | set(one.assigned()) == {0, 1}


async def test_a_topic_that_does_not_exist_is_told_at_start(
    new_log: NewLog, new_topics: NewTopics, new_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "TOPICS_SECONDS", 0.5)
    await new_topics(new_name)
    with pytest.raises(WrongSetting, match=f"no such topics at .*: {new_name}-none"):
        await asyncio.wait_for(new_log(new_name, f"{new_name}-none"), 20)


async def test_topics_with_different_numbers_of_partitions_are_refused_if_nobody_remembers_the_lanes(
    new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(f"{new_name}-a", partitions=2)
    await new_topics(f"{new_name}-b", partitions=3)
    with pytest.raises(PartitionsChanged, match="has 2 partitions, another topic has 3, and no database remembers"):
        await asyncio.wait_for(new_log(f"{new_name}-a", f"{new_name}-b"), 20)


async def test_a_topic_with_fewer_partitions_than_lanes_is_refused(
    new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name, partitions=2)
    with pytest.raises(PartitionsChanged, match=r"has 2 partitions, but there are 4 lanes.*2 to 3 is gone"):
        await asyncio.wait_for(new_log(new_name, lanes=4), 20)


async def test_of_a_topic_that_has_grown_only_the_lanes_are_heard_whoever_shares_them(
    new_log: NewLog, new_topics: NewTopics, new_name: str, bootstrap: str
) -> None:
    topics = [f"{new_name}-a", f"{new_name}-b"]
    await new_topics(topics[0], partitions=2)
    await new_topics(topics[1], partitions=8)
    with capture_logs() as lines:
        both = [await new_log(*topics, lanes=2), await new_log(*topics, lanes=2)]
        await eventually(lambda: [len(log.assigned()) for log in both] == [1, 1])
        await eventually(lambda: len([line for line in lines if line["event"] == "topics_grown"]) == 2)
        assert both[0].astray() == {}
    assert [line["topics"] for line in lines if line["event"] == "topics_grown"] == [[topics[1]]] * 2

    await both[0].append(5, [to_say(topics[1], 1)])
    await eventually(lambda: both[1].astray().keys() == {5}, 30)
    assert str(both[1].astray()[5]).startswith(f"{topics[1]}/5 has 1 record that nobody hears")


async def test_a_topic_that_is_made_while_somebody_starts_is_waited_for(
    new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    opening = asyncio.ensure_future(new_log(new_name))
    await asyncio.sleep(0)
    await new_topics(new_name)
    log = await asyncio.wait_for(opening, 20)
    await eventually(lambda: set(log.assigned()) == {0, 1})


@pytest.mark.parametrize(
    ("key", "partition"),
    # Of the tests of Kafka's Java client: murmur2 of these, made positive, modulo 1000.
    [
        (b"21", (-973932308 & 0x7FFFFFFF) % 1000),
        (b"foobar", (-790332482 & 0x7FFFFFFF) % 1000),
        (b"a-little-bit-long-string", (-985981536 & 0x7FFFFFFF) % 1000),
        (b"a-little-bit-longer-string", (-1486304829 & 0x7FFFFFFF) % 1000),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", (-58897971 & 0x7FFFFFFF) % 1000),
        (b"abc", (479470107 & 0x7FFFFFFF) % 1000),
    ],
)
def test_keys_go_where_kafkas_java_client_sends_them(key: bytes, partition: int) -> None:
    assert partition_of(key, 1000) == partition


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_reading_begins_where_it_was_sought_and_goes_on_in_order(
    new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name)
    log = await new_log(new_name)
    await log.append(1, [to_say(new_name, number) for number in range(30)])
    await eventually(lambda: 1 in log.assigned())

    async def read(count: int) -> list[int]:
        found: list[int] = []
        while len(found) < count:
            found += [record.offset for record in await log.read([(new_name, 1)], 1.0)]
        return found

    log.seek(1, {new_name: 12})
    assert await read(18) == list(range(12, 30))
    log.seek(1, {new_name: 25})
    assert await read(5) == list(range(25, 30))
    log.seek(1, {new_name: 30})
    await log.append(1, [to_say(new_name, 30)])
    assert await read(1) == [30]
    assert await log.read([(new_name, 0)], 0.05) == []
    assert await log.read([], 0.01) == ()


async def test_seeking_in_a_lane_that_is_no_longer_ours_does_nothing(
    new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name)
    log = await new_log(new_name)
    await eventually(lambda: 1 in log.assigned())
    log.seek(99, {new_name: 12})
    assert set(log.assigned()) == {0, 1}


async def test_extents_are_those_of_the_log(
    bootstrap: str, new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    topics = [f"{new_name}-a", f"{new_name}-b"]
    await new_topics(*topics)
    log = await new_log(*topics)
    await eventually(lambda: 0 in log.assigned())
    await log.append(0, [to_say(topics[0], number) for number in range(5)])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for deleted in admin.delete_records([TopicPartition(topics[0], 0, 3)]).values():
        await asyncio.to_thread(deleted.result, 10)
    assert await log.extents(0) == {topics[0]: Extent(3, 5), topics[1]: Extent(0, 0)}


async def test_what_was_heard_is_reported_to_the_group_and_what_is_to_come_is_counted(
    bootstrap: str, new_log: NewLog, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name)
    log = await new_log(new_name)
    await log.append(0, [to_say(new_name, number) for number in range(5)])
    await eventually(lambda: 0 in log.assigned())
    log.seek(0, {new_name: 0})
    await log.read([(new_name, 0)], 5.0)
    assert await log.report({(new_name, 0): 3}) == {(new_name, 0): 2}
    assert log.away is None
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(new_name)])[new_name]
    offsets = (await asyncio.to_thread(found.result, 10)).topic_partitions
    assert [(each.topic, each.partition, each.offset) for each in offsets] == [(new_name, 0, 3)]


# -- a broker that goes away -------------------------------------------------------------------------------------------


async def test_a_report_that_is_not_answered_in_time_says_so_until_one_is(
    stack: Stack, new_log: NewLog, new_topics: NewTopics, new_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not stack.kafka:
        pytest.skip("the broker is not ours to stop")
    monkeypatch.setattr(kafka, "CLOSE_SECONDS", 0.2)
    await new_topics(new_name)
    log = await new_log(new_name)
    await eventually(lambda: 0 in log.assigned())
    log.seek(0, {new_name: 0})
    stack.kafka[0].pause()
    try:
        for _ in range(2):
            await log.report({(new_name, 0): 0})
            assert log.away is not None
            assert "does not take offsets: TimeoutError" in log.away
    finally:
        stack.kafka[0].resume()

    async def is_taken() -> bool:
        await log.report({(new_name, 0): 0})
        return log.away is None

    await eventually(is_taken, within_seconds=30)


async def test_a_connection_that_was_closed_is_told_as_that_on_uvloop_too(bootstrap: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    host, _, port = bootstrap.rpartition(":")

    async def sends_on_a_closed_connection() -> None:
        connection = await create_conn(host, int(port))
        writer = connection._writer
        await connection.close()
        # As it is until the reading side has noticed.
        connection._writer = writer
        with pytest.raises(KafkaConnectionError, match="was closed"):
            await connection.send(MetadataRequest([]))

    await asyncio.to_thread(uvloop.run, sends_on_a_closed_connection())


async def test_what_goes_wrong_after_nobody_waits_for_it_any_more_is_one_line_without_a_stack() -> None:
    async def fails() -> None:
        raise UnknownMemberIdError("shipping")

    loop = asyncio.get_running_loop()
    hear_late_errors(loop)
    with capture_logs() as logs:
        late = loop.create_task(fails())
        await asyncio.wait({late})
        del late
        gc.collect()
    loop.set_exception_handler(None)
    assert [(each["event"], each["log_level"]) for each in logs] == [("kafka_failed_late", "warning")]
    assert "UnknownMemberIdError" in logs[0]["error"]


async def test_nothing_is_lost_or_reordered_when_the_broker_is_killed_while_facts_are_said(
    stack: Stack, bootstrap: str, new_log: NewLog, new_topics: NewTopics, new_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not stack.kafka:
        pytest.skip("the broker is not ours to kill")
    monkeypatch.setattr(outbox, "PAUSE_SECONDS", 0.02)
    await new_topics(new_name)
    log = await new_log(new_name)
    boxes = [Outbox(partition, log, 0, lambda: None) for partition in range(2)]
    said = 0

    def say(rows: int) -> None:
        nonlocal said
        for _ in range(rows):
            said += 1
            for box in boxes:
                box.add([(said, [to_say(new_name, said * 2 - 1, 100), to_say(new_name, said * 2, 100)])])

    async def saying() -> None:
        while said < 400:
            say(2)
            await asyncio.sleep(0.005)

    going = asyncio.create_task(saying())
    await eventually(lambda: all(box.acknowledged > 20 for box in boxes))
    stack.kafka[0].kill()
    assert not stack.kafka[0].is_running
    known = [box.acknowledged for box in boxes]
    await going
    assert all(box.unacknowledged_facts for box in boxes), "the kill came too late to be felt"
    await stack.kafka[0].start()
    await eventually(lambda: all(box.acknowledged == said for box in boxes), within_seconds=60)

    for number, partition in enumerate(await values(bootstrap, new_name)):
        firsts = list(dict.fromkeys(int(value[:6]) for value in partition))
        assert firsts == list(range(1, 2 * said + 1)), f"lane {number}, of which {known[number]} were acknowledged"
    for box in boxes:
        box.drop()


@pytest.fixture
async def member(new_log: NewLog, new_topics: NewTopics, new_name: str) -> KafkaLog:
    """A member of a group, with two lanes."""
    await new_topics(new_name)
    log = await new_log(new_name)
    await eventually(lambda: len(log.assigned()) == 2)
    return log


async def test_who_has_nothing_to_read_for_long_stays_in_the_group(member: KafkaLog) -> None:
    given = member.assigned()
    # As after a week without a lane to read: the database away, or another member at work.
    member._consumer._subscription._last_fetch_ended -= 7 * 24 * 3600
    for _ in range(3 * SESSION_MS // 4 // 500):
        await member.read((), 0.5)
    assert member.assigned() == given


async def test_an_error_of_the_group_is_told_and_not_waited_for_when_nothing_is_to_be_read(
    member: KafkaLog,
) -> None:
    heard = member._consumer._coordinator._push_error_to_user(UnknownMemberIdError())
    await member.read((), 0.0)
    assert "the group of Kafka cannot be joined: UnknownMemberIdError" in str(member.trouble)
    await asyncio.wait_for(heard, 5)
    await member.read((), 0.0)
    assert member.trouble is None
