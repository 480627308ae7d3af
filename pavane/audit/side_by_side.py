"""Many partitions read along in any rhythm, by one client; of what is not asked for yet a bounded number waits.

All partitions are assigned once. Of one that has records enough in memory no more are fetched until they are taken: to
assign each one anew whenever it is asked cost a tenth of a second, and the reader most of its time.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from pavane.audit.errors import EvidenceMissing
from pavane.audit.ledger import Where
from streams.kit.log import Record

READ_AHEAD_RECORDS = 2_000
PAUSE_SECONDS = 0.05
RecordOf = Callable[[str, int, int, Message], Record]


class SideBySide:
    """Of each partition what is below its end. `record_of`: what a client's message is to us; `who`: the cluster."""

    def __init__(
        self, consumer: Consumer, ends: Mapping[Where, int], record_of: RecordOf, patience_seconds: float, who: str
    ) -> None:
        self._consumer = consumer
        self._record_of = record_of
        self._patience_seconds = patience_seconds
        self._who = who
        self._left = {where: end for where, end in ends.items() if end > 0}
        self._waiting: dict[Where, deque[Record]] = {where: deque() for where in ends}
        self._paused: set[Where] = set()
        self._is_assigned = False

    def records(self, where: Where) -> Iterator[Record]:
        """The records of that partition below its end."""
        waiting = self._waiting[where]
        while waiting or where in self._left:
            if not waiting:
                self._fetch(where)
            while waiting:
                yield waiting.popleft()

    def _fetch(self, wanted: Where) -> None:
        """Read until there is some of this partition, or it has ended. Raises `EvidenceMissing`."""
        if not self._is_assigned:
            self._consumer.assign([TopicPartition(*where, OFFSET_BEGINNING) for where in self._left])
            self._is_assigned = True
        self._go_on([where for where in self._paused if len(self._waiting[where]) < READ_AHEAD_RECORDS // 2])
        deadline = time.monotonic() + self._patience_seconds
        while wanted in self._left and not self._waiting[wanted]:
            if self._read():
                deadline = time.monotonic() + self._patience_seconds
            elif time.monotonic() > deadline:
                raise EvidenceMissing(f"{self._who} gives no more records of {wanted[0]}, but it has some")
            full = [w for w in self._left if len(self._waiting[w]) >= READ_AHEAD_RECORDS and w not in self._paused]
            if full:
                self._consumer.pause([TopicPartition(*where) for where in full])
                self._paused.update(full)

    def _read(self) -> bool:
        """Take what the client has; whether it had something."""
        messages = self._consumer.consume(READ_AHEAD_RECORDS, timeout=PAUSE_SECONDS)
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if topic is None or partition is None or offset is None or (topic, partition) not in self._left:
                continue
            where = topic, partition
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise EvidenceMissing(f"{topic}/{partition} cannot be read: {error}")
            elif offset < self._left[where]:
                self._waiting[where].append(self._record_of(topic, partition, offset, message))
            if offset >= self._left[where] - 1:
                del self._left[where]
                self._paused.discard(where)
                self._consumer.incremental_unassign([TopicPartition(*where)])
        return bool(messages)

    def _go_on(self, some: Collection[Where]) -> None:
        if some:
            self._consumer.resume([TopicPartition(*where) for where in some])
            self._paused.difference_update(some)
