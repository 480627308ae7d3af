"""Reading the log for the audit: every topic from its start up to the end that it had at one moment."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pavane.audit.errors import EvidenceMissing
from pavane.audit.ledger import Where
from pavane.audit.side_by_side import SideBySide
from streams.kit.counting import lanes_among
from streams.kit.errors import PartitionsChanged, RecordsAstray
from streams.kit.lane import REQUESTS
from streams.kit.log import Extent, Record

TIMEOUT_SECONDS = 15.0
PATIENCE_SECONDS = 30.0
RECORDS_AT_ONCE = 5_000
PAUSE_SECONDS = 0.05
HEADERS_UNREADABLE = "(headers with a name that is not UTF-8)"
Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

_reading = {
    # A group is only named because the client wants one: partitions are assigned by hand and no offset is committed.
    "group.id": "pavane-audit",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_uncommitted",
    "queued.max.messages.kbytes": 16_384,
    "fetch.wait.max.ms": 50,
    "log_level": 0,
}


class LogReader:
    """The log of one cluster. Raises `EvidenceMissing` when it does not answer or lacks a topic."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer = Consumer({**_reading, "bootstrap.servers": bootstrap})

    def again(self) -> "LogReader":
        """Another one, to read something else meanwhile."""
        return LogReader(self._bootstrap)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def partition_count(self, topics: Collection[str], known: int | None = None) -> int:
        """How many lanes there are: what a database remembers (`known`), or what all these topics have.

        A topic that has grown has more partitions than that; no service hears those.
        """
        counts = self._counts(topics)
        try:
            return lanes_among(counts, known)
        except PartitionsChanged as error:
            listed = ", ".join(f"{topic} {count}" for topic, count in sorted(counts.items()))
            raise EvidenceMissing(f"{error} Partitions: {listed}.") from error

    def astray(self, topics: Collection[str], partition_count: int) -> list[RecordsAstray]:
        """What was written to partitions that are no lanes."""
        counts = self._counts(topics)
        beyond = [TopicPartition(topic, p) for topic in sorted(counts) for p in range(partition_count, counts[topic])]
        try:
            found = [(at, self._consumer.get_watermark_offsets(at, timeout=TIMEOUT_SECONDS)) for at in beyond]
        except KafkaException as error:
            why = error.args[0].str()
            raise EvidenceMissing(f"Kafka at {self._bootstrap} does not tell where its log ends: {why}") from error
        return [
            RecordsAstray(at.topic, at.partition, end - start, partition_count)
            for at, (start, end) in found
            if end > start
        ]

    def _counts(self, topics: Collection[str]) -> dict[str, int]:
        try:
            found = self._consumer.list_topics(timeout=TIMEOUT_SECONDS).topics
        except KafkaException as error:
            why = error.args[0].str()
            raise EvidenceMissing(f"Kafka at {self._bootstrap} (PAVANE_KAFKA) does not answer: {why}") from error
        if missing := sorted(topic for topic in topics if topic not in found):
            raise EvidenceMissing(
                f"Kafka at {self._bootstrap} has no topic {', '.join(missing)}: run 'pavane topics apply', or check "
                f"PAVANE_KAFKA"
            )
        return {topic: len(found[topic].partitions) for topic in topics}

    def ends(self, topics: Collection[str], partition_count: int) -> dict[Where, int]:
        """The end of every partition now: the first offset that nothing was written to."""
        return {where: extent.end for where, extent in self.extents(topics, partition_count).items()}

    def extents(self, topics: Collection[str], partition_count: int) -> dict[Where, Extent]:
        """Where every partition starts and ends now."""
        try:
            return {
                (topic, partition): Extent(
                    *self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_SECONDS)
                )
                for topic in topics
                for partition in range(partition_count)
            }
        except KafkaException as error:
            why = error.args[0].str()
            raise EvidenceMissing(f"Kafka at {self._bootstrap} does not tell where its log ends: {why}") from error

    def records(
        self, topics: Sequence[str], ends: Mapping[Where, int], starts: Mapping[Where, int] = MappingProxyType({})
    ) -> Iterator[Record]:
        """Every record below `ends`, one topic after the other, each partition in order; from `starts` on, if given."""
        for topic in topics:
            wanted = {p: end for (of, p), end in ends.items() if of == topic and end > starts.get((topic, p), 0)}
            yield from self._topic(topic, wanted, starts)

    def side_by_side(self, ends: Mapping[Where, int]) -> Mapping[Where, Iterator[Record]]:
        """Every record below `ends`, each partition in order; all of them can be read along in any rhythm.

        Of each partition some thousands are in memory. Nothing else may be read here meanwhile.
        """
        reading = SideBySide(
            self._consumer, ends, record_of, PATIENCE_SECONDS, f"Kafka at {self._bootstrap}"
        )
        return {where: reading.records(where) for where in ends}

    def _topic(self, topic: str, ends: dict[int, int], starts: Mapping[Where, int]) -> Iterator[Record]:
        if not ends:
            return
        self._consumer.assign([TopicPartition(topic, p, starts.get((topic, p), OFFSET_BEGINNING)) for p in ends])
        left = dict(ends)
        heard_at = time.monotonic()
        while left:
            # The client waits for so many records or for so long, even at the end of the log: so not for long.
            messages = self._consumer.consume(RECORDS_AT_ONCE, timeout=PAUSE_SECONDS)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > PATIENCE_SECONDS:
                raise EvidenceMissing(f"Kafka at {self._bootstrap} gives no more records of {topic}, but it has some")
            for message in messages:
                partition, offset = message.partition(), message.offset()
                if partition is None or offset is None or partition not in left:
                    continue
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise EvidenceMissing(f"{topic}/{partition} cannot be read: {error}")
                elif offset < left[partition]:
                    yield record_of(topic, partition, offset, message)
                if offset >= left[partition] - 1:
                    del left[partition]
                    self._consumer.incremental_unassign([TopicPartition(topic, partition)])
        self._consumer.unassign()


def record_of(topic: str, partition: int, offset: int, message: Message) -> Record:
    """A client's message as we read it: of a request without headers, which are its sender's."""
    headers = () if topic.endswith(REQUESTS) else headers_of(message)
    return Record(topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers)


def headers_of(message: Message) -> Headers:
    """Anybody may write one with a name that is not UTF-8, and there the client breaks: then that is all there is."""
    try:
        return cast("Headers", message.headers() or ())
    except UnicodeDecodeError:
        return [(HEADERS_UNREADABLE, None)]
