"""The two Kafka clients that a raw twin is run with; the faster one counts.

Each consumes whole topics and produces records that were prepared before the clock starts, as fast as the client can:
values and keys are handed on as bytes, headers as the list that they came as, nothing is looked into.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Partition

MOST_BYTES = 900_000
READ_AT_ONCE = 500


class Sent(NamedTuple):
    """One record to produce again."""

    partition: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


class Client(Protocol):
    """What a twin asks of its client."""

    async def start(self, wanted: Mapping[tuple[str, int], int]) -> None:
        """Connect, and stand before these offsets of (topic, partition)."""
        ...

    async def read(self) -> int:
        """How many records came; none if none is there now."""
        ...

    async def send(self, topic: str, records: Sequence[Sent]) -> None:
        """Hand records over; they may be acknowledged later."""
        ...

    async def flush(self) -> None:
        """Return when everything was acknowledged."""
        ...

    async def stop(self) -> None: ...


class Librdkafka:
    """confluent-kafka: librdkafka's own threads fetch and send."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"twin-{uuid4().hex}",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                "queue.buffering.max.messages": 1_000_000,
                "log_level": 0,
            }
        )

    async def start(self, wanted: Mapping[tuple[str, int], int]) -> None:
        self._consumer.assign([Partition(*at, offset) for at, offset in wanted.items()])
        # The producer connects with its first question.
        self._producer.list_topics(timeout=10)

    async def read(self) -> int:
        return len(self._consumer.consume(READ_AT_ONCE, 0.0))

    async def send(self, topic: str, records: Sequence[Sent]) -> None:
        produce = self._producer.produce
        for record in records:
            produce(
                topic,
                record.value,
                record.key,
                partition=record.partition,
                timestamp=record.timestamp,
                headers=record.headers,  # type: ignore[arg-type]
            )
        self._producer.poll(0)

    async def flush(self) -> None:
        self._producer.flush()

    async def stop(self) -> None:
        self._consumer.close()


class Aiokafka:
    """aiokafka: everything on the event loop, batches built by its C extension."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=1_048_576
        )
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=2 * MOST_BYTES
        )
        self._sent: list[asyncio.Future[Any]] = []

    async def start(self, wanted: Mapping[tuple[str, int], int]) -> None:
        await self._consumer.start()
        await self._producer.start()
        self._consumer.assign([TopicPartition(*at) for at in wanted])
        for at, offset in wanted.items():
            self._consumer.seek(TopicPartition(*at), offset)

    async def read(self) -> int:
        batches = await self._consumer.getmany(timeout_ms=0, max_records=READ_AT_ONCE)
        return sum(map(len, batches.values()))

    async def send(self, topic: str, records: Sequence[Sent]) -> None:
        by_partition: dict[int, list[Sent]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        for partition, each in by_partition.items():
            await self._send(topic, partition, each)

    async def _send(self, topic: str, partition: int, records: Sequence[Sent]) -> None:
        batch, size = self._producer.create_batch(), 0
        for record in records:
            size += len(record.value) + 400
            if size > MOST_BYTES:
                self._sent.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch, size = self._producer.create_batch(), 0
            batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers)
        self._sent.append(await self._producer.send_batch(batch, topic, partition=partition))

    async def flush(self) -> None:
        await asyncio.gather(*self._sent)

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._producer.stop()


CLIENTS: Mapping[str, type[Librdkafka] | type[Aiokafka]] = {"librdkafka": Librdkafka, "aiokafka": Aiokafka}
