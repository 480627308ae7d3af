"""A second producer that says everything again, byte by byte: what a retry without idempotence does to a log.

async with echoing(addresses) as echo:     # whatever is appended now stands in the log twice
    ...
await echo.say_the_oldest_again(100)
echo.said_again("orders")                  # how many records it appended to that topic
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from infra.addresses import Addresses
from streams.kit.lane import REQUESTS
from streams.kit.run import find, services

SECONDS = 20.0
AT_ONCE = 500
LOOK_SECONDS = 0.1
Place = tuple[str, int, int]


class Echo:
    """Appends to every topic that a service hears what stands there already, with the original timestamps."""

    def __init__(self, addresses: Addresses) -> None:
        self.topics = sorted({topic for name in services() for topic in find(name).topics})
        self._bootstrap = addresses.kafka_bootstrap
        self._producer = Producer({"bootstrap.servers": self._bootstrap, "log_level": 0, "linger.ms": 5})
        self._own: set[Place] = set()

    def said_again(self, *topics: str) -> int:
        """How many records it has appended to these topics."""
        count = Counter(topic for topic, _, _ in self._own)
        return sum(count[topic] for topic in topics)

    async def say_the_oldest_again(self, count: int) -> None:
        """The first facts of every partition of every topic, though much was said since."""
        for topic in (each for each in self.topics if not each.endswith(REQUESTS)):
            await asyncio.to_thread(self._repeat_oldest, topic, count)

    async def follow(self) -> None:
        """Say again whatever is said from now on, until called off."""
        consumer = await asyncio.to_thread(self._at_the_ends)
        try:
            while True:
                records = await asyncio.to_thread(consumer.consume, AT_ONCE, LOOK_SECONDS)
                await asyncio.to_thread(self._repeat, records)
        finally:
            await asyncio.shield(asyncio.to_thread(consumer.close))

    def _repeat(self, records: Collection[Any]) -> None:
        for record in records:
            assert record.error() is None, record.error()
            if (record.topic(), record.partition(), record.offset()) in self._own:
                continue
            _, timestamp = record.timestamp()
            self._producer.produce(
                record.topic(),
                partition=record.partition(),
                key=record.key(),
                value=record.value(),
                headers=record.headers() or [],
                timestamp=timestamp,
                on_delivery=self._note,
            )
        # What it says it will read itself: by then it must know that it is its own.
        assert self._producer.flush(SECONDS) == 0, "the log does not answer"

    def _note(self, error: Any, record: Any) -> None:
        assert error is None, error
        self._own.add((record.topic(), record.partition(), record.offset()))

    def _repeat_oldest(self, topic: str, count: int) -> None:
        consumer = self._consumer()
        try:
            for partition in consumer.list_topics(topic, SECONDS).topics[topic].partitions:
                consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), SECONDS)
                self._repeat(consumer.consume(min(count, end), SECONDS) if end else [])
        finally:
            consumer.close()

    def _at_the_ends(self) -> Consumer:
        consumer = self._consumer()
        ends = []
        for topic in self.topics:
            for partition in consumer.list_topics(topic, SECONDS).topics[topic].partitions:
                _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), SECONDS)
                ends.append(TopicPartition(topic, partition, end))
        consumer.assign(ends)
        return consumer

    def _consumer(self) -> Consumer:
        return Consumer(
            {"bootstrap.servers": self._bootstrap, "group.id": "unused", "enable.auto.commit": False, "log_level": 0}
        )


@asynccontextmanager
async def echoing(addresses: Addresses) -> AsyncIterator[Echo]:
    """Whatever is said within the block is said twice."""
    echo = Echo(addresses)
    following = asyncio.create_task(echo.follow())
    try:
        yield echo
        if following.done():
            following.result()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
