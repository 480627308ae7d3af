"""The log on Kafka: a consumer that owns whole lanes, and an idempotent producer that keeps the order of each lane.

Lane p, partition p of every topic, is given to one member, as long as all members hear the same topics; a partition
that is not assigned in every topic is no lane and is not taken, and one beyond the lanes (a topic has grown) is
nobody's. Positions are the database's: offsets are committed to the group for lag tools only.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.partitioner import murmur2
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from streams.kit.closed import tell_closed_connections
from streams.kit.counting import lanes_among
from streams.kit.errors import RecordsAstray, WrongSetting
from streams.kit.faultpoints import halfway
from streams.kit.log import Extent, LogAway, LogBegunAnew, Record, Said, ToSay
from streams.kit.logs import logger
from streams.kit.looking import Looker
from streams.kit.reading import LONG_POLL_MILLISECONDS, Reader

tell_closed_connections()

REQUEST_BYTES = 1_000_000
CLOSE_SECONDS = 5.0
PAUSE_SECONDS = 0.5
TOPICS_SECONDS = 5.0
BEYOND_SECONDS = 10.0
ANSWERED_WITHIN_SESSIONS = 2
T = TypeVar("T")

_fetching = {
    "auto_offset_reset": "none",
    "enable_auto_commit": False,
    "max_partition_fetch_bytes": REQUEST_BYTES // 4,
    "fetch_max_wait_ms": LONG_POLL_MILLISECONDS,
    # The client leaves its group for good when nobody reads for so long: while the database is away, every lane is
    # halted, or there are fewer lanes than members. Who gets nowhere is noticed by `liveness`.
    "max_poll_interval_ms": 2**31 - 1,
    "rebalance_timeout_ms": 60_000,
}


def partition_of(key: bytes, count: int) -> int:
    """The partition of a key among `count`, as Kafka's Java client chooses it (murmur2)."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)


class KafkaLog:
    """Implements `streams.kit.log.Log`. `let_go` is awaited before the group takes partitions away.

    `unhurried`: read for a view, whose records nobody waits for: fewer and larger batches.
    """

    def __init__(
        self, bootstrap: str, group: str, topics: Sequence[str], session_timeout_ms: int, *, unhurried: bool = False
    ) -> None:
        self._bootstrap = bootstrap
        self._topics = tuple(topics)
        # A broker that stands still keeps its connections, and whoever asks it waits for so long. The group's members
        # may keep each other waiting for a session.
        self._answer_ms = ANSWERED_WITHIN_SESSIONS * session_timeout_ms
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            client_id=group,
            session_timeout_ms=session_timeout_ms,
            heartbeat_interval_ms=session_timeout_ms // 4,
            request_timeout_ms=self._answer_ms,
            partition_assignment_strategy=(_whole_lanes(lambda: self._partition_count),),
            **_fetching,
        )
        self._reader = Reader(self._consumer, unhurried=unhurried)
        self._looker, self._beyond = Looker(bootstrap, self._answer_ms), Looker(bootstrap, self._answer_ms)
        self._producer: AIOKafkaProducer | None = None
        self._producer_lock = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._assigned: dict[int, int] = {}
        self._given = 0
        self._partition_count = 0
        self._looking: asyncio.Task[None] | None = None
        self._grown: set[str] = set()
        self._astray: dict[int, RecordsAstray] = {}
        #: Where partitions that are said to ended: when their lane was taken, and after the last acknowledgement.
        self._ends: dict[TopicPartition, int] = {}
        self._missing: set[str] = set()
        self._splits = False
        self.away: str | None = None
        #: How long the broker has not answered the reading of a partition of which all that is known was heard.
        self.unanswered_seconds = 0.0
        self.let_go: Callable[[], Awaitable[None]] | None = None

    async def open(self, lanes: int | None = None) -> None:
        """Join the group; waits while the broker is away. `lanes`: how many there are, if anybody remembers.

        Raises `WrongSetting` when a topic does not exist, `PartitionsChanged` when one lacks partitions.
        """
        await _patiently(self._consumer.start)
        try:
            await self._look_at_topics(lanes)
        except BaseException:
            await self.close()
            raise
        # Only now: a client that is subscribed to a topic that does not exist waits for it without a word.
        self._consumer.subscribe(self._topics, listener=_Listener(self))
        self._looking = asyncio.create_task(self._look_beyond(), name="beyond-lanes")

    async def _look_at_topics(self, lanes: int | None) -> None:
        # A topic that was made a moment ago may not be known to the broker that is asked.
        deadline = time.monotonic() + TOPICS_SECONDS
        while missing := set(self._topics) - await _patiently(self._consumer.topics):
            if time.monotonic() > deadline:
                listed = ", ".join(sorted(missing))
                raise WrongSetting(f"no such topics at {self._bootstrap}: {listed}. Run 'pavane topics apply'")
            await asyncio.sleep(PAUSE_SECONDS)
        producer = await _patiently(self._open_producer)
        counts = {topic: len(await producer.partitions_for(topic)) for topic in self._topics}
        self._partition_count = lanes_among(counts, lanes)

    async def close(self) -> None:
        """Leave the group and let go of the producer; what was not acknowledged is left to the outbox."""
        self._reader.close()
        if self._looking is not None:
            self._looking.cancel()
        for stop in (self._consumer.stop, self._looker.close, self._beyond.close):
            with contextlib.suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(stop(), CLOSE_SECONDS)
        self._retire_producer()
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str | None:
        """Why nothing can be read, or why the last reading failed."""
        if self._missing:
            listed = ", ".join(sorted(self._missing))
            return (
                f"Kafka at {self._bootstrap} has no topic {listed} any more. If it is the right cluster, make it again "
                f"with 'pavane topics apply'; 'pavane lanes list' then names the command that says again what is kept"
            )
        return self._reader.trouble

    @property
    def partition_count(self) -> int:
        return self._partition_count

    def assigned(self) -> Mapping[int, int]:
        return dict(self._assigned)

    async def extents(self, partition: int, *also: str) -> Mapping[str, Extent]:
        at = [TopicPartition(topic, partition) for topic in (*self._topics, *also)]
        try:
            starts, ends = await asyncio.gather(self._consumer.beginning_offsets(at), self._consumer.end_offsets(at))
        except KafkaError as error:
            # The client gives its question up before it notices that what it knows of leaders is old.
            self._consumer._client.force_metadata_update()
            raise LogAway(f"Kafka at {self._bootstrap} does not answer: {error!r}") from error
        return {each.topic: Extent(starts[each], ends[each]) for each in at}

    def astray(self) -> Mapping[int, RecordsAstray]:
        return self._astray

    async def _look_beyond(self) -> None:
        """Look now and then, with a connection of its own: nobody who works is held up by a broker that is slow."""
        while True:
            try:
                async with asyncio.timeout(BEYOND_SECONDS):
                    found, self._missing = await self._beyond.beyond(self._topics, self._partition_count)
            except (KafkaError, OSError):
                # What was known stays; that the broker is away is told elsewhere.
                await self._beyond.begin_anew()
                await asyncio.sleep(BEYOND_SECONDS)
                continue
            if self._splits and not self._missing:
                # The group has divided the lanes without a topic: that it is there again it would see in minutes.
                self._consumer._client.force_metadata_update()
            if grown := sorted({each.topic for each in found} - self._grown):
                self._grown |= set(grown)
                lanes, harm = self._partition_count, "none, as long as nobody writes to the partitions beyond the lanes"
                logger().warning("topics_grown", topics=grown, lanes=lanes, consequence=harm)
            astray = {each: records for each, records in found.items() if records}
            # Of two topics in one partition the second is told when the first is settled.
            self._astray = {
                each.partition: RecordsAstray(each.topic, each.partition, records, self._partition_count)
                for each, records in sorted(astray.items(), reverse=True)
            }
            await asyncio.sleep(BEYOND_SECONDS)

    async def last_said(self, topic: str, partition: int, known: int) -> Said | None:
        at = TopicPartition(topic, partition)
        try:
            said, self._ends[at] = await self._looker.last_said(at, known)
            return said
        except KafkaError as error:
            await self._looker.begin_anew()
            raise LogAway(f"Kafka at {self._bootstrap} does not answer: {error!r}") from error

    async def correlation(self, topic: str, partition: int, offset: int) -> str | None:
        try:
            return await self._looker.correlation(TopicPartition(topic, partition), offset)
        except KafkaError as error:
            await self._looker.begin_anew()
            raise LogAway(f"Kafka at {self._bootstrap} does not answer: {error!r}") from error

    def seek(self, partition: int, positions: Mapping[str, int]) -> None:
        for topic, position in positions.items():
            # Not ours any more: the next look at `assigned` drops the lane.
            with contextlib.suppress(IllegalStateError):
                self._reader.seek(TopicPartition(topic, partition), position)
                self._consumer.resume(TopicPartition(topic, partition))

    async def read(self, wanted: Collection[tuple[str, int]], timeout_seconds: float) -> Iterable[Record]:
        if not wanted:
            self._reader.rest()
            await asyncio.sleep(min(timeout_seconds, PAUSE_SECONDS))
            return ()
        return await self._reader.read([TopicPartition(*each) for each in wanted], timeout_seconds)

    async def report(self, positions: Mapping[tuple[str, int], int]) -> Mapping[tuple[str, int], int]:
        at = {TopicPartition(*each): position for each, position in positions.items()}
        held = self._consumer.assignment()
        ours = {each: position for each, position in at.items() if each in held}
        try:
            if ours:
                await asyncio.wait_for(self._consumer.commit(ours), CLOSE_SECONDS)
            self.away = None
        except (KafkaError, TimeoutError) as error:
            self.away = f"Kafka at {self._bootstrap} does not take offsets: {error!r}"
        ends = {each: self._consumer.highwater(each) for each in at if each in held}
        heard = [each for each, end in ends.items() if end is not None and end <= at[each]]
        self._note_answers(heard)
        return {(each.topic, each.partition): max(0, end - at[each]) for each, end in ends.items() if end is not None}

    def _note_answers(self, heard: Collection[TopicPartition]) -> None:
        """A healthy client asks for more of these twice a second, and is answered even when there is none."""
        now = time.time() * 1000
        answered = [self._consumer.last_poll_timestamp(each) for each in heard]
        waited = max((now - at for at in answered if at is not None), default=0.0) / 1000
        # Nobody is answered while the broker is away: that is told as such.
        self.unanswered_seconds = waited if self.away is None else 0.0

    # -- saying ------------------------------------------------------------------------------------------------------

    async def append(self, partition: int, facts: Sequence[ToSay]) -> None:
        producer = await self._open_producer()
        try:
            await halfway("half-said", facts, lambda half: self._append(producer, partition, half))
            await self._append(producer, partition, facts)
        except Exception:
            # Nobody knows what this producer still has in flight: a new one begins, and the old one is left to end.
            if self._producer is producer:
                self._retire_producer()
            raise

    async def _append(self, producer: AIOKafkaProducer, partition: int, facts: Sequence[ToSay]) -> None:
        by_topic: dict[str, list[ToSay]] = {}
        for fact in facts:
            by_topic.setdefault(fact.topic, []).append(fact)
        await asyncio.gather(*(self._send(producer, topic, partition, each) for topic, each in by_topic.items()))

    async def _send(self, producer: AIOKafkaProducer, topic: str, partition: int, facts: Sequence[ToSay]) -> None:
        """Append to one partition in order, in as few batches as fit, one after the other."""
        batch = producer.create_batch()
        for fact in facts:
            if _put(batch, fact) is None:
                await self._acknowledged(producer, batch, topic, partition)
                batch = producer.create_batch()
                if _put(batch, fact) is None:
                    raise ValueError(f"a fact of {len(fact.value)} bytes does not fit into a batch of {REQUEST_BYTES}")
        await self._acknowledged(producer, batch, topic, partition)

    async def _acknowledged(self, producer: AIOKafkaProducer, batch: Any, topic: str, partition: int) -> None:
        """Raises `LogBegunAnew`: offsets only grow, unless the log has lost some."""
        at = TopicPartition(topic, partition)
        offset = (await (await producer.send_batch(batch, topic, partition=partition))).offset
        if producer is not self._producer:
            # What it says of the log's end may be older than what another was told since: it is said again.
            raise KafkaError("acknowledged to a producer that was given up")
        if offset < 0:
            return  # appended long before, and the broker has forgotten where
        if offset < (expected := self._ends.get(at, 0)):
            del self._ends[at]
            raise LogBegunAnew(topic, partition, offset, expected)
        self._ends[at] = offset + batch.record_count()

    async def _open_producer(self) -> AIOKafkaProducer:
        async with self._producer_lock:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    max_batch_size=REQUEST_BYTES,
                    max_request_size=4 * REQUEST_BYTES,
                    linger_ms=0,
                    request_timeout_ms=self._answer_ms,
                )
                await producer.start()
                self._producer = producer
            return self._producer

    def _retire_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            task = asyncio.create_task(_close(producer), name="close-producer")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # -- the group ---------------------------------------------------------------------------------------------------

    def note_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """The group gives these partitions: those that are given in every topic are lanes."""
        by_partition: dict[int, set[str]] = {}
        for each in assigned:
            # A leader of the group that is an older version gives what is beyond the lanes as well.
            if each.partition < self._partition_count:
                by_partition.setdefault(each.partition, set()).add(each.topic)
        # Nothing is fetched before `seek` says from where; and the questions that a takeover asks of the broker would
        # wait behind a fetch's long poll, half a second each.
        self._consumer.pause(*assigned)
        self._given += 1
        whole = set(self._topics)
        self._assigned = {partition: self._given for partition, topics in by_partition.items() if topics == whole}
        split = sorted(partition for partition, topics in by_partition.items() if topics != whole)
        self._splits = bool(split)
        if split:
            logger().warning("lanes_split", partitions=split, reason="the group's members hear different topics")

    async def note_revoked(self) -> None:
        """The group takes everything back, to give it again."""
        begun = time.monotonic()
        self._assigned = {}
        if self.let_go is not None:
            await self.let_go()
        logger().info("revoked", seconds=round(time.monotonic() - begun, 3))


def hear_late_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log what goes wrong in the client after nobody waits for it any more as a line of its own, without a stack.

    The client goes on with a commit of offsets that was given up, and tells nobody how it ends.
    """

    def heard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), KafkaError):
            logger().warning("kafka_failed_late", error=repr(context["exception"]))
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(heard)


async def _patiently(connect: Callable[[], Awaitable[T]]) -> T:
    """Try until the broker answers."""
    patient = AsyncRetrying(
        retry=retry_if_exception_type((KafkaError, OSError)),
        wait=wait_random_exponential(max=5),
        before_sleep=lambda state: logger().warning("kafka_away", attempt=state.attempt_number),
    )

    async def once() -> T:
        return await connect()

    return await patient(once)


def _whole_lanes(lanes: Callable[[], int]) -> type[RangePartitionAssignor]:
    """The range assignor, over the lanes only: a topic that has grown is divided like all others."""

    class WholeLanes(RangePartitionAssignor):  # type: ignore[misc]
        @classmethod
        def assign(cls, cluster: Any, members: Mapping[str, Any]) -> Any:
            return super().assign(_Lanes(cluster, lanes()), members)

    return WholeLanes


class _Lanes(NamedTuple):
    """What the assignor asks of the cluster."""

    cluster: Any
    lanes: int

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {partition for partition in self.cluster.partitions_for_topic(topic) or () if partition < self.lanes}


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, log: KafkaLog) -> None:
        self._log = log

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        if revoked:
            await self._log.note_revoked()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self._log.note_assigned(assigned)


def _put(batch: object, fact: ToSay) -> object:
    return batch.append(  # type: ignore[attr-defined]
        timestamp=fact.timestamp, key=fact.key, value=fact.value, headers=list(fact.headers)
    )


async def _close(producer: AIOKafkaProducer) -> None:
    with contextlib.suppress(KafkaError, TimeoutError, asyncio.CancelledError):
        await asyncio.wait_for(producer.stop(), CLOSE_SECONDS)
