"""A lane: one partition of every topic that a service hears, and of the topic it says, under one owner.

The lane holds what was read and not yet heard, one queue a topic. `order` takes from the queues, in turn, what the
clock lets through, into a `Draft`: what one batch hears and says in this lane. When the batch's transaction commits,
the draft is adopted; when it does not, it is put back. Until then the lane's own positions and clock are what the
database has.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from streams.kit import clock as causal
from streams.kit import envelope
from streams.kit.clock import Clock, Verdict
from streams.kit.envelope import Envelope
from streams.kit.errors import ForeignWriter, RefusedToGuess, SequenceGap
from streams.kit.log import Record, ToSay
from streams.kit.parking import Parked, Parking

REQUESTS = ".requests"
DEAD_LETTERS = ".dead-letters"
RETRIED = ".retried"
DUE = ".due"
MOST_DEAD_LETTER_BYTES = 800_000
MOST_HEADER_BYTES = 32_000


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One record that may be heard now, and who said it, knowing what. `parked`: it was heard, and is tried again."""

    record: Record
    envelope: Envelope
    parked: Parked | None = None

    @property
    def is_new(self) -> bool:
        """It comes from the log: the clock has to move over it. (A deadline has no sequence.)"""
        return self.parked is None and self.envelope.sequence > 0


class Holding(NamedTuple):
    """What the database knows of a lane: the epoch of its owner, how far it has heard, and what it has said.

    `positions`: the next offset to read, by topic. `row`: the number of the last outbox row; `acknowledged`: the last
    one of which the log has acknowledged every fact. `held`: how many records are parked of each key that waits;
    `parked`: the number of the last parked record.
    """

    epoch: int
    positions: Mapping[str, int]
    clock: Mapping[str, int]
    row: int
    acknowledged: int
    held: Mapping[str, int] = MappingProxyType({})
    parked: int = 0


class Draft:
    """What one batch hears and says in one lane. Nothing of it is true before the transaction has committed."""

    def __init__(self, lane: "Lane", deliveries: list[Delivery], taken: dict[str, list[Delivery]]) -> None:
        self.lane = lane
        self.deliveries = deliveries
        self.taken = taken
        #: How many records were taken that had been heard before.
        self.passed_over = sum(map(len, taken.values())) - len(deliveries)
        self.positions = {**lane.positions, **{topic: t[-1].record.offset + 1 for topic, t in taken.items() if t}}
        self.begin()

    def begin(self) -> None:
        """Hear nothing and say nothing yet: the start of a fold, and of one that is folded again."""
        self.clock: Clock = dict(self.lane.clock)
        self.said: list[ToSay] = []
        self.names: list[str] = []
        self.parking = Parking(self.lane.held, self.lane.parked)

    def hear(self, delivery: Delivery) -> None:
        """Move the clock over the delivery. Facts said from now on tell that it was heard."""
        said = delivery.envelope
        causal.hear(self.clock, self.lane.knows_itself, said.speaker, said.sequence, said.heard)

    def say(self, name: str, key: str, value: bytes, timestamp: int, cause: Envelope) -> None:
        """Say a fact: give it the next sequence, and the clock as it is now."""
        me, clock = self.lane.me, self.clock
        sequence = clock[me] = clock.get(me, 0) + 1
        headers = envelope.write(me, self.lane.partition, sequence, name, self.spoken_clock(), cause)
        self.said.append(ToSay(me, timestamp, key.encode(), value, headers))
        self.names.append(name)

    def retry(self) -> None:
        """Count a parked record that a view is told again: what comes later is told under higher ordinals."""
        counted = self.lane.me + RETRIED
        self.clock[counted] = self.clock.get(counted, 0) + 1

    def mark(self) -> tuple[int, int]:
        """A point within the fold to go back to."""
        return len(self.names), self.clock.get(self.lane.me, 0)

    def undo(self, mark: tuple[int, int]) -> None:
        """Take back what was said since the mark."""
        undone = len(self.names) - mark[0]
        if undone:
            del self.said[-undone:], self.names[-undone:]
        if mark[1] or self.lane.me in self.clock:
            self.clock[self.lane.me] = mark[1]

    def spoken_clock(self) -> Clock:
        """The clock as others are told it: without the count of dead letters, which concerns nobody else."""
        return {who: known for who, known in self.clock.items() if not who.endswith(DEAD_LETTERS)}

    def put_aside(self, delivery: Delivery, timestamp: int, why: Iterable[tuple[str, bytes]]) -> None:
        """Say a dead letter: the record's own bytes and headers, and why nobody can handle it.

        A record as large as the broker takes would not fit any more with the reasons added: it is cut, and says so; the
        database keeps it whole.
        """
        topic, clock = self.lane.me + DEAD_LETTERS, self.clock
        number = clock[topic] = clock.get(topic, 0) + 1
        record = delivery.record
        value = record.value or b""
        headers = _within(
            MOST_HEADER_BYTES,
            [each for each in envelope.with_values(record.headers) if not each[0].startswith("dead_letter_")],
        )
        if len(value) > MOST_DEAD_LETTER_BYTES:
            headers.append(("dead_letter_cut_from_bytes", str(len(value)).encode()))
        headers += [
            ("dead_letter_id", f"{topic}/{self.lane.partition}/{number}".encode()),
            ("dead_letter_origin", f"{record.topic}/{record.partition}/{record.offset}".encode()),
            ("dead_letter_clock", envelope.write_clock(clock)),
            *why,
        ]
        key = record.key[:MOST_HEADER_BYTES] if record.key else record.key
        self.said.append(ToSay(topic, timestamp, key, value[:MOST_DEAD_LETTER_BYTES], headers))

    @property
    def moved(self) -> bool:
        """Something was heard or passed over: the lane's row in the database has to change."""
        return (
            bool(self.said)
            or not self.parking.is_empty
            or self.positions != self.lane.positions
            or self.clock != self.lane.clock
        )


class Lane:
    """One lane, held by this instance since `epoch` was raised."""

    def __init__(self, me: str, partition: int, topics: Collection[str], holding: Holding) -> None:
        self.me = me
        self.partition = partition
        self.epoch = holding.epoch
        self.positions = {topic: holding.positions.get(topic, 0) for topic in topics}
        # Of a topic that was never heard here something may be known through others: it is heard from its start.
        new = {topic for topic in topics if topic not in holding.positions}
        self.clock: Clock = {who: known for who, known in holding.clock.items() if who not in new}
        self.row = holding.row
        self.held = dict(holding.held)
        # Each number went with a step of the clock, so none beyond the clock's sum was ever given: none comes again.
        self.parked = max(holding.parked, sum(holding.clock.values()))
        self.hears = frozenset(topics)
        self._requests = frozenset(topic for topic in topics if topic.endswith(REQUESTS))
        # Others know of our requests from our facts alone, so these were heard, though the clock may have been set back
        # since: with a topic that was made anew offsets begin again.
        self._waits_for = self.hears - self._requests
        #: Of these speakers the clock follows what came here, and not what others have heard of them.
        self.knows_itself = self.hears | {me}
        self.halted: RefusedToGuess | None = None
        self._queues: dict[str, deque[Delivery | ForeignWriter]] = {topic: deque() for topic in topics}
        self._expected = dict(self.positions)
        self._more = False

    # -- reading -----------------------------------------------------------------------------------------------------

    def push(self, record: Record) -> None:
        """Queue a record that was read. Records that were read before, or that were heard, are passed over."""
        topic = record.topic
        if record.offset < self._expected[topic]:
            return
        self._expected[topic] = record.offset + 1
        self._more = True
        self._queues[topic].append(self._opened(record))

    def queued(self, topic: str) -> int:
        """How many records of the topic were read and not yet taken."""
        return len(self._queues[topic])

    @property
    def ready(self) -> bool:
        """More records wait to be taken, and nothing says that they must wait longer."""
        return self._more and self.halted is None

    def held_back(self) -> int:
        """How many records were read and not yet taken, of all topics."""
        return sum(map(len, self._queues.values()))

    def _opened(self, record: Record) -> "Delivery | ForeignWriter":
        if record.topic in self._requests:
            about = envelope.of_request(record.topic, record.partition, record.offset, record.headers)
            return Delivery(record, about)
        try:
            about = envelope.read(record.headers)
        except ValueError as error:
            what = f"it has no envelope of ours ({error})"
            return ForeignWriter(self.me, record.topic, record.partition, record.offset, what)
        if about.speaker != record.topic or about.partition != record.partition:
            what = f"it says that it is {about.id}"
            return ForeignWriter(self.me, record.topic, record.partition, record.offset, what)
        return Delivery(record, about)

    # -- hearing -----------------------------------------------------------------------------------------------------

    def order(self, limit: int) -> Draft:
        """Take up to `limit` records that may be heard, in an order that causes allow; known ones are passed over.

        A fact that must not be heard (a gap, a foreign writer) halts the lane: what came before it is still heard.
        """
        clock = dict(self.clock)
        deliveries: list[Delivery] = []
        taken: dict[str, list[Delivery]] = {topic: [] for topic in self._queues}
        open_topics = [topic for topic, queue in self._queues.items() if queue]
        # What each topic waits for whose next record is early: until that is heard, nobody need look at it again.
        waiting: dict[str, tuple[str, int]] = {}
        while open_topics and len(deliveries) < limit and self.halted is None:
            for topic in tuple(open_topics):
                if len(deliveries) >= limit:
                    break
                verdict = self._take_next(topic, clock, deliveries, taken)
                if verdict is Verdict.EARLY:
                    open_topics.remove(topic)
                    waiting[topic] = self._lacking(topic, clock)
                    continue
                if verdict is Verdict.NEXT and waiting:
                    heard = [each for each, (who, known) in waiting.items() if clock.get(who, 0) >= known]
                    for each in heard:
                        del waiting[each]
                    open_topics[:0] = heard
                if verdict is None or self.halted:
                    open_topics.remove(topic)
        self._more = bool(open_topics)
        return Draft(self, deliveries, taken)

    def _take_next(
        self, topic: str, clock: Clock, deliveries: list[Delivery], taken: dict[str, list[Delivery]]
    ) -> Verdict | None:
        """Take the topic's next record if it may be heard; its verdict, or None if there is no next record."""
        queue = self._queues[topic]
        if not queue:
            return None
        first = queue[0]
        if isinstance(first, ForeignWriter):
            return self._met(topic, first)
        said = first.envelope
        if topic in self._requests:
            # Offsets may have holes (a foreign producer's transactions leave markers), so there is no gap to see.
            verdict = Verdict.NEXT if said.sequence > clock.get(topic, 0) else Verdict.KNOWN
        else:
            verdict = causal.judge(clock, self._waits_for, said.speaker, said.sequence, said.heard)
        if verdict is Verdict.EARLY:
            return verdict
        if verdict is Verdict.GAP:
            record = first.record
            known = clock.get(said.speaker, 0)
            self.halted = SequenceGap(self.me, topic, record.partition, record.offset, known, said.sequence)
            return verdict
        queue.popleft()
        taken[topic].append(first)
        if verdict is Verdict.NEXT:
            # What is known through it of others is no matter here: only what is listened to can hold something up.
            clock[said.speaker] = said.sequence
            deliveries.append(first)
        return verdict

    def _met(self, topic: str, foreign: ForeignWriter) -> Verdict:
        """The next record of a topic is not its owner's: nothing behind it is heard before somebody decides."""
        self.halted = foreign
        return Verdict.GAP

    def _lacking(self, topic: str, clock: Clock) -> tuple[str, int]:
        """What the topic's next record, which is early, waits for."""
        first = self._queues[topic][0]
        assert isinstance(first, Delivery)
        said = first.envelope
        lacking = causal.lacking(clock, self._waits_for, said.speaker, said.heard)
        assert lacking is not None
        return lacking

    # -- what becomes of a draft ---------------------------------------------------------------------------------------

    def adopt(self, draft: Draft) -> None:
        """The draft's transaction has committed: what it says is true."""
        self.positions = draft.positions
        self.clock = draft.clock
        self.held = draft.parking.held
        self.parked = draft.parking.last
        if draft.said:
            self.row += 1

    def put_back(self, draft: Draft) -> None:
        """The draft's transaction did not commit: its records are the next ones again."""
        for topic, deliveries in draft.taken.items():
            self._queues[topic].extendleft(reversed(deliveries))
            self._more = self._more or bool(deliveries)


def _within(most_bytes: int, headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The first headers that fit."""
    kept: list[tuple[str, bytes]] = []
    for name, value in headers:
        most_bytes -= len(name) + len(value)
        if most_bytes < 0:
            break
        kept.append((name, value))
    return kept
