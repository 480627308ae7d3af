"""What became of the orders, heard on the topic `orders` from its beginning and then live."""

import time
from collections.abc import Set
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from infra.addresses import Addresses
from pavane.demo.plan import Outcome
from streams.kit.codec import Codec
from streams.kit.events import Heard
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry

TOPIC = "orders"
READ_SECONDS = 0.2


class OrderCancelled(Heard, topic=TOPIC):
    """An order was called off."""

    reason: str


class Outcomes:
    """Orders that were placed, and those that have ended: how, and when that was seen here.

    Of several ends of one order the first counts; that there is only one is the audit's question.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.placed: set[str] = set()
        self.ended: dict[str, Outcome] = {}
        #: When each end was heard here, on this process's monotonic clock; only of what was followed live.
        self.seen_at: dict[str, float] = {}
        self._live = False
        self._partitions: Set[TopicPartition] = frozenset()
        self._codec = Codec(Language.load(), ConfluentRegistry(addresses.registry_url))
        self._consumer = AIOKafkaConsumer(
            TOPIC, bootstrap_servers=addresses.kafka_bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )

    async def __aenter__(self) -> Self:
        """Hear everything that was said up to now."""
        await self._consumer.start()
        try:
            # As many as there are, not as many as a new topic would have.
            self._partitions = self._consumer.assignment()
            await self._consumer.seek_to_beginning(*self._partitions)
            await self.catch_up()
        except BaseException:
            await self._consumer.stop()
            raise
        self._live = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def catch_up(self) -> None:
        """Hear everything that is in the topic now."""
        ends = await self._consumer.end_offsets(self._partitions)
        while [at for at in self._partitions if await self._consumer.position(at) < ends[at]]:
            await self.hear()

    async def hear(self) -> list[str]:
        """Hear what has come since; wait a moment when nothing has. The orders that ended."""
        batches: dict[Any, list[ConsumerRecord]] = await self._consumer.getmany(timeout_ms=int(READ_SECONDS * 1000))
        records = [record for batch in batches.values() for record in batch]
        await self._codec.learn({record.value for record in records if _name(record) == "OrderCancelled"})
        return [order for record in records if (order := self._note(record)) is not None]

    def _note(self, record: ConsumerRecord) -> str | None:
        order: str = record.key.decode()
        match _name(record):
            case "OrderPlaced":
                self.placed.add(order)
                return None
            case "OrderConfirmed":
                outcome = Outcome.CONFIRMED
            case "OrderRejected":
                self.placed.add(order)
                outcome = Outcome.REJECTED
            case "OrderCancelled":
                cancelled = self._codec.decode(record.value, OrderCancelled, {})
                assert isinstance(cancelled, OrderCancelled)
                outcome = Outcome(cancelled.reason)
            case _:
                return None
        if order in self.ended:
            return None
        self.ended[order] = outcome
        if self._live:
            self.seen_at[order] = time.monotonic()
        return order


def _name(record: ConsumerRecord) -> str:
    return next((value.decode() for name, value in record.headers if name == "ce_type"), "")
