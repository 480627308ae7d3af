"""What the log holds now: where partitions begin and end, and some of their records. Nothing is committed."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pavane.audit.ledger import Where
from pavane.audit.log import record_of
from pavane.operators.errors import NotAsked
from streams.kit.events import milliseconds
from streams.kit.log import Extent, Record

ASK_SECONDS = 10.0
PATIENCE_SECONDS = 20.0
RECORDS_AT_ONCE = 500
ReadRecord: TypeAlias = Callable[[str, int, int, Message], Record]

_reading: Mapping[str, Any] = {
    # A group is only named because the client wants one.
    "group.id": "pavane-lanes",
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "log_level": 0,
}


class LogView:
    """The log of one cluster. Raises `NotAsked` when it does not answer."""

    def __init__(self, bootstrap: str, consumer: Consumer) -> None:
        self._bootstrap = bootstrap
        self._consumer = consumer

    @classmethod
    @contextlib.contextmanager
    def at(cls, bootstrap: str) -> "Iterator[LogView]":
        """Connected from the block's beginning to its end."""
        consumer = Consumer({**_reading, "bootstrap.servers": bootstrap or "127.0.0.1:0"})
        try:
            yield cls(bootstrap, consumer)
        except KafkaException as error:
            raise NotAsked(f"Kafka at {bootstrap} (PAVANE_KAFKA) does not answer: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def extents(self, wanted: Collection[Where]) -> dict[Where, Extent]:
        """The first offset of each of these partitions that is there, and the first that is not yet."""
        known = self._consumer.list_topics(timeout=ASK_SECONDS).topics
        found: dict[Where, Extent] = {}
        for topic, partition in wanted:
            if topic in known and partition in known[topic].partitions:
                at = TopicPartition(topic, partition)
                found[topic, partition] = Extent(*self._consumer.get_watermark_offsets(at, timeout=ASK_SECONDS))
        return found

    def counts(self, topics: Collection[str]) -> dict[str, int]:
        """How many partitions each of these topics has, of those that are there."""
        known = self._consumer.list_topics(timeout=ASK_SECONDS).topics
        return {topic: len(known[topic].partitions) for topic in topics if topic in known}

    def beyond(self, lanes: Mapping[str, int]) -> dict[Where, Extent]:
        """The partitions that hold something beyond the lanes, whose number is given for each topic."""
        counts = self.counts(lanes)
        spare = [(topic, p) for topic, count in sorted(counts.items()) for p in range(lanes[topic], count)]
        return {where: extent for where, extent in self.extents(spare).items() if extent.end > extent.start}

    def since(self, wanted: Collection[Where], at: datetime) -> dict[Where, int]:
        """The first offset of each partition whose record is not before `at`; of one that has none nothing."""
        ms = milliseconds(at)
        asked = [TopicPartition(topic, partition, ms) for topic, partition in wanted]
        found = self._consumer.offsets_for_times(asked, timeout=ASK_SECONDS) if asked else []
        return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}

    def records(
        self, topic: str, partition: int, first: int, end: int, most: int, read: ReadRecord = record_of
    ) -> list[Record]:
        """The first records, at most so many, of the offsets from `first` up to below `end`."""
        found: list[Record] = []
        if first >= end:
            return found
        for _, offset, message in self._from({(topic, partition): first}, min(most, RECORDS_AT_ONCE)):
            # The log's end, or offsets that a foreign transaction left without records.
            if message is None or offset >= end:
                break
            found.append(read(topic, partition, offset, message))
            if len(found) == most:
                break
        return found

    def first_records(self, offsets: Mapping[Where, int]) -> dict[Where, Record]:
        """The first record of each partition from its offset on, if there is one: all partitions are asked at once."""
        found: dict[Where, Record] = {}
        unanswered = set(offsets)
        for where, offset, message in self._from(offsets, RECORDS_AT_ONCE):
            if message is not None and where in unanswered:
                found[where] = record_of(*where, offset, message)
            unanswered.discard(where)
            if not unanswered:
                break
        return found

    def _from(self, offsets: Mapping[Where, int], at_once: int) -> Iterator[tuple[Where, int, Message | None]]:
        """The records of each partition from its offset on, and each time that its end is reached nothing."""
        self._consumer.assign([TopicPartition(*where, offset) for where, offset in offsets.items()])
        heard_at = time.monotonic()
        while offsets:
            for message in self._consumer.consume(at_once, timeout=0.2):
                heard_at = time.monotonic()
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                if topic is not None and partition is not None and offset is not None:
                    yield (topic, partition), offset, message if error is None else None
            if time.monotonic() - heard_at > PATIENCE_SECONDS:
                names = ", ".join(f"{of}/{lane} from {first}" for (of, lane), first in offsets.items())
                raise NotAsked(f"Kafka at {self._bootstrap} gives no records of {names} on")
