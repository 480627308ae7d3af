"""Records that the client cannot read stop nobody else's records."""

import struct
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c

from infra.stack import Stack
from streams.kit import envelope
from streams.kit.kafka import KafkaLog
from streams.kit.log import Record
from streams.kit.reading import ENOUGH_BYTES, GATHERING_MILLISECONDS, LONG_POLL_MILLISECONDS
from tests.conftest import NewTopics
from tests.waiting import eventually

NAME, NOT_UTF8 = b"xy-header-xy", b"\xff\xfe-header-\xff\xfe"


async def from_the_start(log: KafkaLog, topic: str, count: int) -> list[Record]:
    """The first so many records of the partition; then the log is closed."""
    read: list[Record] = []

    async def everything() -> bool:
        read.extend(await log.read([(topic, 0)], 0.2))
        return len(read) >= count

    try:
        await eventually(lambda: 0 in log.assigned())
        log.seek(0, {topic: 0})
        await eventually(everything)
    finally:
        await log.close()
    return read


async def test_an_unreadable_batch_of_one_producer_is_handed_on_and_everybody_elses_records_are_read(
    stack: Stack, new_topics: NewTopics, new_name: str
) -> None:
    topic = f"{new_name}.requests"
    await new_topics(topic, partitions=1)
    await _produce(stack, topic, [b"first"])
    await _produce(stack, topic, [b"before", None, b"behind"])
    await _produce(stack, topic, [b"last"])
    log = KafkaLog(stack.addresses.kafka_bootstrap, new_name, [topic], 6_000)
    await log.open()
    read = await from_the_start(log, topic, 5)

    assert [record.offset for record in read] == [0, 1, 2, 3, 4]
    assert [record.value for record in read] == [b"first", b"before", None, None, b"last"]


async def test_who_looks_for_its_last_facts_steps_over_a_record_that_the_client_cannot_read(
    stack: Stack, new_topics: NewTopics, new_name: str
) -> None:
    await new_topics(new_name, partitions=1)
    cause = envelope.of_request("r", 0, 0, ())
    producer = AIOKafkaProducer(bootstrap_servers=stack.addresses.kafka_bootstrap, acks="all")
    await producer.start()
    try:
        for sequence in (1, 2, 3):
            if sequence == 3:
                await _produce(stack, new_name, [None])
            headers = envelope.write(new_name, 0, sequence, "Told", {}, cause)
            await producer.send_and_wait(new_name, b"v", key=b"k", partition=0, headers=headers)
    finally:
        await producer.stop()
    log = KafkaLog(stack.addresses.kafka_bootstrap, new_name, [new_name], 6_000)
    await log.open()
    try:
        said = await log.last_said(new_name, 0, 3)
    finally:
        await log.close()

    assert said is not None
    assert (said.last, said.up_to) == (3, 3)


async def test_what_came_before_an_error_is_read_again(
    stack: Stack, new_topics: NewTopics, new_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client forgets what it had taken out of its buffers when it raises."""
    topic = f"{new_name}.requests"
    await new_topics(topic, partitions=1)
    await _produce(stack, topic, [b"first", b"second"])
    log = KafkaLog(stack.addresses.kafka_bootstrap, new_name, [topic], 6_000)
    await log.open()
    ask, given = log._reader._consumer.getmany, []

    async def fails_after_records(*partitions: Any, **bounds: Any) -> Any:
        found = await ask(*partitions, **bounds)
        if found:
            given.append("records" if given else "error")
            if given == ["error"]:
                raise KafkaError("a broker that answers nonsense")
        return found

    monkeypatch.setattr(log._reader._consumer, "getmany", fails_after_records)
    read = await from_the_start(log, topic, 2)

    assert given[:2] == ["error", "records"]
    assert [record.value for record in read] == [b"first", b"second"]


async def test_the_broker_gathers_while_records_come_and_no_longer(
    stack: Stack, new_topics: NewTopics, new_name: str
) -> None:
    topic = f"{new_name}.requests"
    await new_topics(topic, partitions=1)
    log = KafkaLog(stack.addresses.kafka_bootstrap, new_name, [topic], 6_000)
    await log.open()
    try:
        await eventually(lambda: 0 in log.assigned())
        log.seek(0, {topic: 0})
        asked = _bounds_of_requests(log)
        assert not list(await log.read([(topic, 0)], 0.2))
        await _produce(stack, topic, [b"first"])
        while not list(await log.read([(topic, 0)], 0.2)):
            pass
        await eventually(lambda: (GATHERING_MILLISECONDS, ENOUGH_BYTES) in asked)
        assert (LONG_POLL_MILLISECONDS, 1) in asked
        await eventually(lambda: asked[-1] == (LONG_POLL_MILLISECONDS, 1))
    finally:
        await log.close()


def _bounds_of_requests(log: KafkaLog) -> list[tuple[int, int]]:
    """How long and for how many bytes the broker is asked to wait, of every fetch from now on."""
    asked: list[tuple[int, int]] = []
    client = log._reader._consumer._client
    send = client.send

    async def noted(node: int, request: Any, **more: Any) -> Any:
        if isinstance(request, FetchRequest):
            asked.append((request._max_wait_ms, request._min_bytes))
        return await send(node, request, **more)

    client.send = noted
    return asked


async def _produce(stack: Stack, topic: str, values: list[bytes | None], partition: int = 0) -> None:
    """Append the values in one batch; a None is a record with a header name that is not UTF-8."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.addresses.kafka_bootstrap, acks="all")
    await producer.start()
    try:
        batch = producer.create_batch()
        for value in values:
            headers = [] if value is not None else [(NAME.decode(), b"x")]
            batch.append(timestamp=1, key=b"k", value=value or b"v", headers=headers)
        batch.close()
        if None in values:
            _spoil(batch)
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


def _spoil(batch: Any) -> None:
    """Write bytes that are not UTF-8 over the header names, and the checksum that they make."""
    data = bytearray(batch._build())
    assert data.count(NAME) > 0
    spoiled = bytes(data).replace(NAME, NOT_UTF8)
    data = bytearray(spoiled)
    data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
    batch._buffer = data


async def test_a_damaged_copy_stops_its_own_partition_alone_until_it_is_whole_again(
    stack: Stack, new_topics: NewTopics, new_name: str
) -> None:
    if not stack.kafka:
        pytest.skip("the broker's disk is not ours to damage")
    topic = f"{new_name}.requests"
    await new_topics(topic, partitions=2)
    for value in (b"first", b"second", b"third"):
        await _produce(stack, topic, [value])
        await _produce(stack, topic, [value], partition=1)
    [segment] = (stack.kafka[0].folder / "log" / f"{topic}-0").glob("*.log")
    whole = segment.read_bytes()
    at = whole.index(b"second")
    _write_at(segment, at, b"s-cond")
    log = KafkaLog(stack.addresses.kafka_bootstrap, new_name, [topic], 6_000)
    await log.open()
    read: list[Record] = []

    async def more() -> None:
        read.extend(await log.read([(topic, 0), (topic, 1)], 0.2))

    async def all_but_the_damaged() -> bool:
        await more()
        return len(read) >= 4 and log.trouble is not None

    async def all_of_it() -> bool:
        await more()
        return len(read) >= 6 and log.trouble is None

    try:
        await eventually(lambda: log.assigned().keys() == {0, 1})
        log.seek(0, {topic: 0})
        log.seek(1, {topic: 0})
        await eventually(all_but_the_damaged)
        assert f"{topic}/0, offset 1 or soon after: the broker's copy is damaged" in str(log.trouble)
        assert sorted((record.partition, record.offset) for record in read) == [(0, 0), (1, 0), (1, 1), (1, 2)]
        _write_at(segment, at, b"second")
        await eventually(all_of_it, 30.0)
    finally:
        await log.close()
    assert [record.value for record in read if record.partition == 0] == [b"first", b"second", b"third"]


def _write_at(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as open_file:
        open_file.seek(at)
        open_file.write(content)
