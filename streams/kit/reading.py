"""Reading records from Kafka: in as few requests as the moment allows, and past those that the client cannot read.

Each request, and each batch of records, has a fixed cost. So the broker is asked to gather for some milliseconds while
records come, and to answer at once with the first one when none came lately (`_gather`).

A record may have a header whose name is not UTF-8; aiokafka raises in the middle of what it fetched, forgets what it
had already taken, and would raise at the same place for ever. So after such an error everything is read again, one
record a partition at a time, until the unreadable one has shown itself. It is handed on as a record without key, value
and headers: on a request topic it becomes a dead letter, on a single-writer topic it halts the lane. The client
decodes a batch from its beginning, so what the same producer wrote behind it in one batch is unreadable as well.

A batch whose checksum is wrong is found in the same way, and never handed on: another copy of it may be right. Its
partition is left out, and tried again now and then by itself; everything else goes on.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import (
    CorruptRecordException,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from streams.kit.faultpoints import reached
from streams.kit.log import LogAway, Record
from streams.kit.logs import logger

READ_AHEAD_RECORDS = 1_000
PAUSE_SECONDS = 0.5
LOOK_MILLISECONDS = 200
#: So long everything is read carefully, unless what cannot be read was found before.
CAREFUL_SECONDS = 10.0
#: So long a damaged partition is left alone.
DAMAGED_SECONDS = 5.0
#: So long the broker gathers, while records come, unless it has this many bytes earlier; for a view, longer.
GATHERING_MILLISECONDS = 20
UNHURRIED_MILLISECONDS = 100
ENOUGH_BYTES = 200_000
#: Without a record for so many times that long, the next one is answered at once.
GATHERING_ENDS_AFTER = 3
LONG_POLL_MILLISECONDS = 500
Found = list[tuple[TopicPartition, Sequence[Record]]]


class _Unpacked(fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched of a partition, unpacked to our records at once, for every consumer of this process. They have
    the names of the client's own; nothing is deserialized."""

    def _consumer_record(self, at: TopicPartition, found: Any) -> Record:
        headers = tuple(found.headers)
        return Record(at.topic, at.partition, found.offset, found.timestamp, found.key, found.value, headers)


fetcher.PartitionRecords = _Unpacked


class _Damage(NamedTuple):
    """Of a partition that is left out until then, by `time.monotonic`."""

    until: float
    words: str


class Reader:
    """Reads for one consumer. `next` is what the caller has not been given yet, by partition.

    `unhurried`: nobody waits for what the caller makes of the records, so they are gathered for longer.
    """

    def __init__(self, consumer: AIOKafkaConsumer, *, unhurried: bool = False) -> None:
        self._consumer = consumer
        self._gathering_milliseconds = UNHURRIED_MILLISECONDS if unhurried else GATHERING_MILLISECONDS
        self._gathers_until: asyncio.TimerHandle | None = None
        self._next: dict[TopicPartition, int] = {}
        #: Until when, by `time.monotonic`.
        self._carefully_until = 0.0
        self._damaged: dict[TopicPartition, _Damage] = {}
        self._failed: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why the last reading failed, or what is damaged."""
        return next((damage.words for damage in self._damaged.values()), self._failed)

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Read from here on. Raises `IllegalStateError` for a partition that is not assigned."""
        self._consumer.seek(at, offset)
        self._next[at] = offset
        self._damaged.pop(at, None)

    async def read(self, partitions: Collection[TopicPartition], timeout_seconds: float) -> list[Record]:
        """Records of these partitions, in offset order each; none if none came in time or the broker is away.

        Raises `LogAway` when a position has left the log: whoever takes the lane again sees what is missing.
        """
        try:
            if self._damaged:
                if records := await self._read_damaged(partitions):
                    return list(records)
                partitions = [at for at in partitions if at not in self._damaged]
                if not partitions:
                    await asyncio.sleep(min(timeout_seconds, PAUSE_SECONDS))
                    return []
            if time.monotonic() < self._carefully_until:
                return await self._read_carefully(partitions)
            found = await self._ask(partitions, timeout_seconds)
        except NoOffsetForPartitionError:
            # A lane that was assigned and not yet sought to its position.
            return []
        except OffsetOutOfRangeError as error:
            raise LogAway(f"a position is not in the log any more, its lane is looked at again: {error!r}") from error
        except (CorruptRecordException, UnicodeDecodeError) as error:
            logger().warning("unreadable_record", error=str(error), next="looking for it one record at a time")
            self._carefully_until = time.monotonic() + CAREFUL_SECONDS
            self._go_back(partitions)
            return []
        except KafkaError as error:
            # Of what came before the error nobody knows how much was taken already.
            self._go_back(partitions)
            self._failed = f"Kafka cannot be read: {error!r}"
            logger().warning("read_failed", error=repr(error), again_in_seconds=PAUSE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)
            return []
        self._failed = None
        if found:
            self._gather()
            reached("after-read")
        self._next.update((at, each_of[-1].offset + 1) for at, each_of in found if each_of)
        return [record for _, each_of in found for record in each_of]

    def _gather(self) -> None:
        """From the next request on, and for a moment, the broker gathers: where one record came, more will follow.

        The client fixes both bounds when it is made, though the protocol has them in each request.
        """
        self.close()
        asks, long = self._consumer._fetcher, self._gathering_milliseconds
        asks._fetch_min_bytes, asks._fetch_max_wait_ms = ENOUGH_BYTES, long

        def enough() -> None:
            asks._fetch_min_bytes, asks._fetch_max_wait_ms = 1, LONG_POLL_MILLISECONDS

        seconds = GATHERING_ENDS_AFTER * long / 1000
        self._gathers_until = asyncio.get_running_loop().call_later(seconds, enough)

    def rest(self) -> None:
        """Nothing is to be read: what went wrong before is nobody's trouble. What the group's coordinator has met is:
        it waits until somebody has heard of it, as a reading does."""
        self._damaged.clear()
        self._failed = None
        try:
            self._consumer._coordinator.check_errors()
        except KafkaError as error:
            self._failed = f"the group of Kafka cannot be joined: {error!r}"
            logger().warning("group_failed", error=repr(error), again_in_seconds=PAUSE_SECONDS)

    def close(self) -> None:
        """Leave nothing behind."""
        if self._gathers_until is not None:
            self._gathers_until.cancel()

    async def _ask(self, partitions: Collection[TopicPartition], timeout_seconds: float) -> Found:
        found = await self._consumer.getmany(
            *partitions, timeout_ms=int(timeout_seconds * 1000), max_records=READ_AHEAD_RECORDS
        )
        return list(found.items())

    async def _read_carefully(self, partitions: Collection[TopicPartition]) -> list[Record]:
        """The next record of each partition. Done once what cannot be read was found, or after a while: it may have
        been mended, or be somebody else's to read by now."""
        records: list[Record] = []
        try:
            for at in partitions:
                records += await self._read_one(at)
        except KafkaError:
            # It comes again with the next reading; what was read before it is handed on.
            if not records:
                raise
        self._next.update((TopicPartition(each.topic, each.partition), each.offset + 1) for each in records)
        return records

    async def _read_damaged(self, wanted: Collection[TopicPartition]) -> Sequence[Record]:
        """The next record of a damaged partition, if one is to be tried again and is whole. What nobody wants now is
        forgotten."""
        self._damaged = {at: damage for at, damage in self._damaged.items() if at in wanted}
        for at, damage in [(at, damage) for at, damage in self._damaged.items() if damage.until < time.monotonic()]:
            if records := await self._read_one(at):
                self._damaged.pop(at, None)
                self._next[at] = records[-1].offset + 1
                return records
            if self._damaged.get(at) is damage:
                # Neither a record nor an error: another leader is being found, or has nothing there yet.
                self._damaged[at] = damage._replace(until=time.monotonic() + DAMAGED_SECONDS)
        return ()

    async def _read_one(self, at: TopicPartition) -> Sequence[Record]:
        """The partition's next record, if it has one."""
        try:
            found = await self._consumer.getmany(at, timeout_ms=LOOK_MILLISECONDS, max_records=1)
            records: Sequence[Record] = found.get(at, ())
            return records
        except UnicodeDecodeError:
            offset = await self._consumer.position(at)
            self.seek(at, offset + 1)
            self._carefully_until = 0.0
            return [_unreadable(at, offset)]
        except CorruptRecordException as error:
            self.seek(at, self._next[at])
            self._carefully_until = 0.0
            words = (
                f"{at.topic}/{at.partition}, offset {self._next[at]} or soon after: the broker's copy is damaged "
                f"({error}). Nothing more of it is heard; it is tried again every {DAMAGED_SECONDS:.0f} s. Where there "
                f"are replicas, let another one lead, and delete this one's copy"
            )
            self._damaged[at] = _Damage(time.monotonic() + DAMAGED_SECONDS, words)
            logger().error("damaged_record", topic=at.topic, partition=at.partition, trouble=words)
            return ()

    def _go_back(self, partitions: Collection[TopicPartition]) -> None:
        for at in partitions:
            try:
                self._consumer.seek(at, self._next[at])
            except (IllegalStateError, KeyError):
                # Not ours any more, or not sought yet: whoever takes it says from where.
                continue


def _unreadable(at: TopicPartition, offset: int) -> Record:
    return Record(at.topic, at.partition, offset, int(time.time() * 1000), None, None, ())
