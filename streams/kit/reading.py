"""Reading records from Kafka, and getting past those that the client cannot read.

A record may have a header whose name is not UTF-8; aiokafka raises in the middle of what it fetched, forgets what it
had already taken, and would raise at the same place for ever. So after such an error everything is read again, one
record a partition at a time, until the unreadable one has shown itself. It is handed on as a record without key, value
and headers: on a request topic it becomes a dead letter, on a single-writer topic it halts the lane. The client
decodes a batch from its beginning, so what the same producer wrote behind it in one batch is unreadable as well.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from streams.kit.faultpoints import reached
from streams.kit.log import LogAway, Record
from streams.kit.logs import logger

READ_AHEAD_RECORDS = 1_000
PAUSE_SECONDS = 0.5
LOOK_MILLISECONDS = 200
#: With so many there is nothing to gain by waiting for more.
ENOUGH_RECORDS = 400
#: Of the time that the caller took for the last records: so long it is waited for more, but not longer than this.
GATHERING_SHARE = 0.5
LONGEST_GATHERING_SECONDS = 0.03
#: What an unhurried reader always waits.
UNHURRIED_SECONDS = 0.1
Found = list[tuple[TopicPartition, Sequence[Any]]]


class Reader:
    """Reads for one consumer. `next` is what the caller has not been given yet, by partition.

    `unhurried`: nobody waits for what the caller makes of the records, so a moment more is always waited for more.
    """

    def __init__(self, consumer: AIOKafkaConsumer, *, unhurried: bool = False) -> None:
        self._consumer = consumer
        self._unhurried = unhurried
        self._next: dict[TopicPartition, int] = {}
        self._carefully = False
        self._given_at = time.monotonic()
        #: Why the last reading failed, if it did.
        self.trouble: str | None = None

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Read from here on. Raises `IllegalStateError` for a partition that is not assigned."""
        self._consumer.seek(at, offset)
        self._next[at] = offset

    async def read(self, partitions: Collection[TopicPartition], timeout_seconds: float) -> list[Record]:
        """Records of these partitions, in offset order each; none if none came in time or the broker is away.

        Raises `LogAway` when a position has left the log: whoever takes the lane again sees what is missing.
        """
        try:
            if self._carefully:
                return await self._read_carefully(partitions)
            found = await self._gathered(partitions, timeout_seconds)
        except NoOffsetForPartitionError:
            # A lane that was assigned and not yet sought to its position.
            return []
        except OffsetOutOfRangeError as error:
            raise LogAway(f"a position is not in the log any more, its lane is looked at again: {error!r}") from error
        except KafkaError as error:
            # Of what came before the error nobody knows how much was taken already.
            self._go_back(partitions)
            self.trouble = f"Kafka cannot be read: {error!r}"
            logger().warning("read_failed", error=repr(error), again_in_seconds=PAUSE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)
            return []
        except UnicodeDecodeError as error:
            logger().warning("unreadable_record", error=str(error), next="looking for it one record at a time")
            self._carefully = True
            self._go_back(partitions)
            return []
        self.trouble = None
        if found:
            reached("after-read")
        self._next.update((at, each_of[-1].offset + 1) for at, each_of in found if each_of)
        return [record for at, each_of in found for record in _records(at, each_of)]

    async def _gathered(self, partitions: Collection[TopicPartition], timeout_seconds: float) -> Found:
        """What came, and what comes while a share of the time passes that the caller took for the last it was given.

        Each batch has a fixed cost (statements, a commit, requests to the log). Where batches take long, much arrives
        meanwhile, and waiting a moment for it saves more than it costs; where they are quick, the wait is short.
        """
        took = time.monotonic() - self._given_at
        found = await self._ask(partitions, timeout_seconds)
        if found and timeout_seconds > 0 and sum(len(each_of) for _, each_of in found) < ENOUGH_RECORDS:
            pause = min(took * GATHERING_SHARE, LONGEST_GATHERING_SECONDS)
            await asyncio.sleep(UNHURRIED_SECONDS if self._unhurried else pause)
            found += await self._ask(partitions, 0.0)
        self._given_at = time.monotonic()
        return found

    async def _ask(self, partitions: Collection[TopicPartition], timeout_seconds: float) -> Found:
        found = await self._consumer.getmany(
            *partitions, timeout_ms=int(timeout_seconds * 1000), max_records=READ_AHEAD_RECORDS
        )
        return list(found.items())

    async def _read_carefully(self, partitions: Collection[TopicPartition]) -> list[Record]:
        """The next record of each partition. Done once the unreadable one was found."""
        records = []
        for at in partitions:
            try:
                found = await self._consumer.getmany(at, timeout_ms=LOOK_MILLISECONDS, max_records=1)
                records += _records(at, found.get(at, ()))
                self._next.update((at, each.offset + 1) for each in found.get(at, ()))
            except UnicodeDecodeError:
                offset = await self._consumer.position(at)
                records.append(_unreadable(at, offset))
                self.seek(at, offset + 1)
                self._carefully = False
        return records

    def _go_back(self, partitions: Collection[TopicPartition]) -> None:
        for at in partitions:
            try:
                self._consumer.seek(at, self._next[at])
            except (IllegalStateError, KeyError):
                # Not ours any more, or not sought yet: whoever takes it says from where.
                continue


def _records(at: TopicPartition, found: Iterable[Any]) -> list[Record]:
    topic, partition = at.topic, at.partition
    return [Record(topic, partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in found]


def _unreadable(at: TopicPartition, offset: int) -> Record:
    return Record(at.topic, at.partition, offset, int(time.time() * 1000), None, None, ())
