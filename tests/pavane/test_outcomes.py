"""What became of the orders: all of the topic is heard, however it is cut."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from infra.addresses import Addresses
from pavane.demo import outcomes
from pavane.demo.outcomes import Outcomes

ADDRESSES = Addresses("127.0.0.1:1", "http://127.0.0.1:1", {}, "", "", "")
PARTITIONS = 8


class Topic:
    """A consumer of a topic of eight partitions, with one order placed on each."""

    def __init__(self, *subscribed: str, **settings: Any) -> None:
        self._assigned = {TopicPartition(name, number) for name in subscribed for number in range(PARTITIONS)}
        self._position = dict.fromkeys(self._assigned, 0)

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def seek_to_beginning(self, *partitions: TopicPartition) -> None: ...

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._assigned = set(partitions)
        self._position = dict.fromkeys(partitions, 0)

    def assignment(self) -> set[TopicPartition]:
        return self._assigned

    async def end_offsets(self, partitions: set[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 1)

    async def position(self, partition: TopicPartition) -> int:
        return self._position[partition]

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        found: dict[TopicPartition, list[Any]] = {}
        for at, position in self._position.items():
            placed = SimpleNamespace(key=b"order-%d" % at.partition, headers=[("ce_type", b"OrderPlaced")], value=b"")
            found[at] = [placed][position:]
            self._position[at] = 1
        return found


async def test_orders_are_heard_on_every_partition_that_the_topic_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "AIOKafkaConsumer", Topic)
    monkeypatch.delenv("PAVANE_PARTITIONS", raising=False)

    async with Outcomes(ADDRESSES) as heard:
        assert heard.placed == {f"order-{number}" for number in range(PARTITIONS)}
