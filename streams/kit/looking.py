"""Looking at topics beside the reading of them: what did their speaker say last, and have they grown?"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, KafkaTimeoutError

from streams.kit import envelope
from streams.kit.envelope import Envelope
from streams.kit.lane import REQUESTS
from streams.kit.log import Answered, Said

FIRST_RECORDS = 50
MOST_RECORDS = 50_000
MOST_ANSWERED = 3
ANSWER_SECONDS = 20.0
LONG_POLL_MS = 10
CLOSE_SECONDS = 5.0


class Looker:
    """A client of no group, connected when it is first asked. One question at a time. Raises `KafkaError`.

    `answer_ms`: so long one request is waited for.
    """

    def __init__(self, bootstrap: str, answer_ms: int) -> None:
        self._bootstrap = bootstrap
        self._answer_ms = answer_ms
        self._consumer: AIOKafkaConsumer | None = None

    async def close(self) -> None:
        """Let go of the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def begin_anew(self) -> None:
        """Forget what is known of the brokers: nothing else makes an idle client look again who leads a partition."""
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(self.close(), CLOSE_SECONDS)

    async def last_said(self, at: TopicPartition, known: int) -> tuple[Said | None, int]:
        """See `Log.last_said`; and where the partition ends. The last record alone does not tell: facts may be there
        twice, the earlier ones last."""
        consumer = await self._connected()
        # Asked before anything is fetched: questions wait behind a fetch's long poll.
        start = (await consumer.beginning_offsets([at]))[at]
        end = (await consumer.end_offsets([at]))[at]
        if start == end:
            return (Said(0, 0) if end == 0 else None), end
        consumer.assign([at])
        try:
            records = FIRST_RECORDS
            while True:
                first = max(start, end - records)
                facts = await self._facts(consumer, at, first, end)
                up_to = max((sequence for sequence in facts if sequence <= known), default=0)
                last = max(facts, default=0)
                answered = _answered(facts.values())
                if up_to == known or first == start:
                    # Where the topic's start is not kept, nothing up to `known` need be.
                    return Said(last, up_to or (known if start else 0), answered), end
                if records >= MOST_RECORDS:
                    return Said(last, known, answered), end
                records *= 10
        finally:
            consumer.assign([])

    async def correlation(self, at: TopicPartition, offset: int) -> str | None:
        """See `Log.correlation`."""
        consumer = await self._connected()
        consumer.assign([at])
        try:
            consumer.seek(at, offset)
            deadline = time.monotonic() + ANSWER_SECONDS
            while time.monotonic() < deadline:
                for record in (await consumer.getmany(at, timeout_ms=1_000, max_records=1)).get(at, ()):
                    of_request = envelope.of_request(at.topic, at.partition, offset, record.headers)
                    return of_request.correlation if record.offset == offset else None
        except (CorruptRecordException, UnicodeDecodeError):
            return None
        else:
            raise KafkaTimeoutError(f"no record of {at.topic}/{at.partition} from {offset} on")
        finally:
            consumer.assign([])

    async def beyond(self, topics: Collection[str], lanes: int) -> tuple[Mapping[TopicPartition, int], set[str]]:
        """The partitions that these topics have beyond the lanes, with how many records are in each; and the topics
        that there are not."""
        consumer = await self._connected()
        cluster = await consumer._client.fetch_all_metadata()
        spare = [TopicPartition(topic, p) for topic in topics for p in cluster.partitions_for_topic(topic) or ()]
        spare = sorted(each for each in spare if each.partition >= lanes)
        missing = {topic for topic in topics if not cluster.partitions_for_topic(topic)}
        if not spare:
            return {}, missing
        starts = await consumer.beginning_offsets(spare)
        ends = await consumer.end_offsets(spare)
        return {each: ends[each] - starts[each] for each in spare}, missing

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                fetch_max_wait_ms=LONG_POLL_MS,
                request_timeout_ms=self._answer_ms,
            )
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer

    @staticmethod
    async def _facts(consumer: AIOKafkaConsumer, at: TopicPartition, first: int, end: int) -> dict[int, Envelope]:
        """The facts at these offsets by their sequences."""
        consumer.seek(at, first)
        facts, deadline = dict[int, Envelope](), time.monotonic() + ANSWER_SECONDS
        most: int | None = None
        while (offset := await consumer.position(at)) < end:
            try:
                found = await consumer.getmany(at, timeout_ms=1_000, max_records=most)
            except UnicodeDecodeError:
                # The client breaks at a header's name that is no text. It is nobody's fact: step over that one record.
                consumer.seek(at, offset if most is None else offset + 1)
                most, found = 1, {}
            for record in found.get(at, ()):
                if (said := envelope.of_own(at.topic, at.partition, record.headers)) is not None:
                    facts[said.sequence] = said
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"no records of {at.topic}/{at.partition} from {first} on")
        return facts


def _answered(facts: Iterable[Envelope]) -> dict[str, list[Answered]]:
    """See `Said`. A request of another lane may be answered as well, so only those of the fact's own count."""
    found: dict[str, list[Answered]] = {}
    for fact in sorted(facts, key=lambda fact: fact.sequence, reverse=True):
        topic, _, rest = fact.cause.partition("/")
        partition, _, offset = rest.partition("/")
        if not topic.endswith(REQUESTS) or partition != str(fact.partition) or not offset.isdecimal():
            continue
        there = found.setdefault(topic, [])
        if len(there) < MOST_ANSWERED and all(each.offset != int(offset) for each in there):
            there.append(Answered(int(offset), fact.correlation, fact.sequence))
    return found
