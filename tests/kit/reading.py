"""What is in a topic now, read without any group."""

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.kit import envelope


async def records(bootstrap: str, topic: str, partitions: int) -> list[list[Any]]:
    """Every record of each partition, in the order of the log."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        at = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(at)
        ends = await consumer.end_offsets(at)
        found: list[list[Any]] = [[] for _ in at]
        while any([await consumer.position(each) < ends[each] for each in at]):
            for where, some in (await consumer.getmany(timeout_ms=100)).items():
                found[where.partition] += some
        return found
    finally:
        await consumer.stop()


def first_appearances(records: Sequence[Any]) -> list[Any]:
    """The facts of one lane without those that were said again. Fails when one is missing or out of order."""
    firsts: list[Any] = []
    for record in records:
        sequence = envelope.read(record.headers).sequence
        assert sequence <= len(firsts) + 1, f"{record.topic}/{record.partition}: {sequence} follows {len(firsts)}"
        if sequence == len(firsts) + 1:
            firsts.append(record)
        else:
            assert record.value == firsts[sequence - 1].value, f"{record.topic}: {sequence} was said as something else"
    return firsts


async def send(bootstrap: str, *sent: tuple[str, int, bytes | None, bytes | None, Sequence[tuple[str, bytes]]]) -> None:
    """Append (topic, partition, key, value, headers) and wait for the acknowledgements."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        waiting = [
            await producer.send(topic, value, key=key, partition=partition, headers=list(headers))
            for topic, partition, key, value, headers in sent
        ]
        for each in waiting:
            await each
