"""Looking at topics beside the reading of them: what did their speaker say last, and have they grown?"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streams.kit import envelope

FIRST_RECORDS = 50
MOST_RECORDS = 50_000
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

    async def last_said(self, at: TopicPartition, at_least: int) -> int | None:
        """See `Log.last_said`. The last record alone does not tell: facts may be there twice, the earlier ones last."""
        consumer = await self._connected()
        # Asked before anything is fetched: questions wait behind a fetch's long poll.
        start = (await consumer.beginning_offsets([at]))[at]
        end = (await consumer.end_offsets([at]))[at]
        if start == end:
            return 0 if end == 0 else None
        consumer.assign([at])
        try:
            last, records = 0, FIRST_RECORDS
            while True:
                first = max(start, end - records)
                last = max(last, await self._highest(consumer, at, first, end))
                if last >= at_least or first == start or records > MOST_RECORDS:
                    return last
                records *= 10
        finally:
            consumer.assign([])

    async def beyond(self, topics: Collection[str], lanes: int) -> Mapping[TopicPartition, int]:
        """The partitions that these topics have beyond the lanes, with how many records are in each."""
        consumer = await self._connected()
        cluster = await consumer._client.fetch_all_metadata()
        spare = [TopicPartition(topic, p) for topic in topics for p in cluster.partitions_for_topic(topic) or ()]
        spare = sorted(each for each in spare if each.partition >= lanes)
        if not spare:
            return {}
        starts = await consumer.beginning_offsets(spare)
        ends = await consumer.end_offsets(spare)
        return {each: ends[each] - starts[each] for each in spare}

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
    async def _highest(consumer: AIOKafkaConsumer, at: TopicPartition, first: int, end: int) -> int:
        consumer.seek(at, first)
        last, deadline = 0, time.monotonic() + ANSWER_SECONDS
        while await consumer.position(at) < end:
            found = await consumer.getmany(at, timeout_ms=1_000)
            for record in found.get(at, ()):
                try:
                    said = envelope.read(record.headers)
                except ValueError:
                    continue  # somebody else wrote it
                if said.speaker == at.topic and said.partition == at.partition:
                    last = max(last, said.sequence)
            if time.monotonic() > deadline:
                raise KafkaTimeoutError(f"no records of {at.topic}/{at.partition} from {first} on")
        return last
