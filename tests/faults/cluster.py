"""What the brokers themselves say: who leads a partition, who keeps up with it, how long it is, what is in it."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported for all but type checkers
    AdminClient,
    OffsetSpec,
    PartitionMetadata,
)

ANSWER_SECONDS = 5.0
Ends = Mapping[int, int]


class Appended(NamedTuple):
    """One record of the log: an append that is repeated has the same id and key."""

    type: bytes
    id: bytes
    key: bytes


class Cluster:
    """Answers are of the moment; what these brokers (host:port, ...) cannot answer now is empty."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin = self._new_client()
        self._numbers: dict[str, list[int]] = {}

    async def leaders(self, topic: str) -> Mapping[int, int]:
        """The id of the broker that leads each partition; -1: none does."""
        return {number: each.leader for number, each in (await self._partitions(topic)).items()}

    async def in_sync(self, topic: str) -> Mapping[int, frozenset[int]]:
        """The ids of the brokers that have all of each partition."""
        return {number: frozenset(each.isrs) for number, each in (await self._partitions(topic)).items()}

    async def is_whole(self, topics: list[str]) -> bool:
        """Whether every replica of these topics keeps up."""
        found = [each for topic in topics for each in (await self._partitions(topic)).values()]
        return bool(found) and all(set(each.isrs) == set(each.replicas) for each in found)

    async def ends(self, topic: str) -> Ends:
        """The offset behind the last record of each partition."""
        try:
            if topic not in self._numbers:
                self._numbers[topic] = list(await self._partitions(topic))
            wanted = {At(topic, number): OffsetSpec.latest() for number in self._numbers[topic]}  # type: ignore[no-untyped-call]
            found = self._admin.list_offsets(wanted)
            return {at.partition: (await asyncio.to_thread(f.result, ANSWER_SECONDS)).offset for at, f in found.items()}
        except (KafkaException, TimeoutError):
            # It goes on asking a leader that has gone.
            self._admin = self._new_client()
            return {}

    async def length(self, topic: str) -> int:
        """How many records there are, as long as none were deleted."""
        return sum((await self.ends(topic)).values())

    def _new_client(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})

    async def _partitions(self, topic: str) -> Mapping[int, PartitionMetadata]:
        try:
            # Of a new client: one that knows all brokers may wait for the one that does not answer.
            found = await asyncio.to_thread(self._new_client().list_topics, topic, ANSWER_SECONDS)
        except KafkaException:
            return {}
        return dict(found.topics[topic].partitions)

    async def records(self, topic: str, since: Ends) -> list[Appended]:
        """What was appended from these offsets on."""
        found: list[Appended] = []
        async with AIOKafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False) as consumer:
            for number, end in (await self.ends(topic)).items():
                at = TopicPartition(topic, number)
                consumer.assign([at])
                consumer.seek(at, since[number])
                while await consumer.position(at) < end:
                    for record in (await consumer.getmany(at, timeout_ms=500)).get(at, ()):
                        headers = dict(record.headers)
                        found.append(Appended(headers["ce_type"], headers["ce_id"], record.key))
        return found
