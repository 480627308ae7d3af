"""A second producer that says everything again, byte by byte: what a retry without idempotence does to a log.

async with echoing(addresses) as echo:     # whatever is appended now stands in the log twice
    ...
await echo.say_the_oldest_again(100)
await echo.say_again(since, until)         # what was said between two `await echo.ends()`
echo.said_again("orders")                  # how many records it appended to that topic
echo.newest("orders")                      # the latest of their timestamps
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from infra.addresses import Addresses
from streams.kit.run import find, services

SECONDS = 20.0
AT_ONCE = 500
LOOK_SECONDS = 0.1
Place = tuple[str, int, int]
Offsets = Mapping[tuple[str, int], int]


class Echo:
    """Appends to every topic that a service hears what stands there already, with the original timestamps."""

    def __init__(self, addresses: Addresses) -> None:
        self.topics = sorted({topic for name in services() for topic in find(name).topics})
        self._bootstrap = addresses.kafka_bootstrap
        self._producer = Producer({"bootstrap.servers": self._bootstrap, "log_level": 0, "linger.ms": 5})
        self._own: dict[Place, int] = {}

    def said_again(self, *topics: str) -> int:
        """How many records it has appended to these topics."""
        count = Counter(topic for topic, _, _ in self._own)
        return sum(count[topic] for topic in topics)

    def newest(self, topic: str) -> float:
        """When the latest of those records was said, in seconds since 1970, as the log has it."""
        return max(at for (where, _, _), at in self._own.items() if where == topic) / 1000

    async def ends(self) -> Offsets:
        """The offset behind the last record of every partition of every topic."""
        return await asyncio.to_thread(self._ends)

    async def say_the_oldest_again(self, count: int) -> None:
        """The first records of every partition of every topic, though much was said since."""
        ends = await self.ends()
        await self.say_again(dict.fromkeys(ends, 0), {at: min(count, end) for at, end in ends.items()})

    async def say_again(self, since: Offsets, until: Offsets) -> None:
        """What stands from these places on, as far as the others."""
        for at, first in since.items():
            if until[at] > first:
                await asyncio.to_thread(self._repeat_from, TopicPartition(*at, first), until[at] - first)

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
        _, timestamp = record.timestamp()
        self._own[record.topic(), record.partition(), record.offset()] = timestamp

    def _repeat_from(self, at: TopicPartition, count: int) -> None:
        consumer = self._consumer()
        try:
            consumer.assign([at])
            self._repeat(consumer.consume(count, SECONDS))
        finally:
            consumer.close()

    def _ends(self) -> Offsets:
        consumer = self._consumer()
        try:
            return {
                (topic, partition): consumer.get_watermark_offsets(TopicPartition(topic, partition), SECONDS)[1]
                for topic in self.topics
                for partition in consumer.list_topics(topic, SECONDS).topics[topic].partitions
            }
        finally:
            consumer.close()

    def _at_the_ends(self) -> Consumer:
        consumer = self._consumer()
        consumer.assign([TopicPartition(topic, partition, end) for (topic, partition), end in self._ends().items()])
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
