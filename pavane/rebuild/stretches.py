"""The facts of one lane, some thousands at a time, in an order in which they may be folded.

A service's rows follow from what it said itself: `OwnFacts` reads its topic. A projection's follow from what it heard:
`HeardFacts` reads those topics, and lets through what the clock lets through, by the worker's own rule.
"""

import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from pavane.audit.ledger import Where
from pavane.audit.log import LogReader
from pavane.rebuild.errors import CannotFold, FactsMissing
from pavane.rehearing import HearingAgain, Strays
from streams.kit import envelope
from streams.kit.clock import Clock, Verdict
from streams.kit.codec import Codec
from streams.kit.errors import Undecodable
from streams.kit.events import Event
from streams.kit.lane import Delivery, Holding
from streams.kit.log import Record, ToSay
from streams.kit.opening import Opener, PartitionOf
from streams.kit.service import Service

RECORDS = 5_000
Ends = Mapping[str, int]
Origin = tuple[str, int, int]


class Stretch(NamedTuple):
    """Some events of one lane with what each is about; where the lane then stands; how many records they were."""

    events: Sequence[tuple[Event, str]]
    positions: Mapping[str, int]
    clock: Mapping[str, int]
    records: int


class OwnFacts:
    """What the service said in one lane: each sequence once, in order, up to `most`, whoever else wrote there."""

    def __init__(
        self, service: Service, codec: Codec, log: LogReader, partition: int, positions: Ends, clock: Mapping[str, int]
    ) -> None:
        self._me = service.name
        self._facts = service.says
        self._codec = codec
        self._log = log
        self._partition = partition
        self._position = positions.get(self._me, 0)
        self._clock = dict(clock)
        self._strays = Strays()
        self.most = sys.maxsize
        codec.read_own(self._me, service.says.values())

    async def up_to(self, ends: Ends) -> AsyncIterator[Stretch]:
        """Everything below these offsets, from where the last call ended. Raises `FactsMissing`, `CannotFold`."""
        where = (self._me, self._partition)
        found = self._log.records([self._me], {where: ends.get(self._me, 0)}, {where: self._position})
        while records := list(islice(found, RECORDS)):
            await self._codec.learn(record.value for record in records)
            self._position = records[-1].offset + 1
            yield self._stretch(records)
        self._expect_all()

    async def unsaid(self, facts: Iterable[ToSay]) -> AsyncIterator[Stretch]:
        """What is committed and was not in the log up to here: from the lane's outbox."""
        records = [
            Record(fact.topic, self._partition, -1, fact.timestamp, fact.key, fact.value, fact.headers)
            for fact in facts
            if fact.topic == self._me
        ]
        await self._codec.learn(record.value for record in records)
        if records:
            stretch = self._stretch(records)
            self._expect_all()
            yield stretch

    def _stretch(self, records: Sequence[Record]) -> Stretch:
        events: list[tuple[Event, str]] = []
        known, last = self._clock.get(self._me, 0), None
        for record in records:
            said = envelope.of_own(self._me, self._partition, record.headers)
            if said is None or not known < said.sequence <= self.most:
                continue
            if said.sequence != known + 1:
                self._strays.pass_over(record.offset, said.sequence)
                continue
            known, last = said.sequence, said
            events.append(self._opened(record))
        if last is not None:
            self._clock = {**last.heard, self._me: known}
        return Stretch(events, {self._me: self._strays.held(self._position, known)}, self._clock, len(records))

    def _expect_all(self) -> None:
        known = self._clock.get(self._me, 0)
        if (stray := self._strays.left(known)) is not None:
            raise FactsMissing(self._me, self._me, self._partition, stray.offset, known, stray.sequence)

    def _opened(self, record: Record) -> tuple[Event, str]:
        try:
            fact = self._facts[self._codec.name_of(record.value)]
            return self._codec.decode(record.value, fact, {}), (record.key or b"").decode()
        except (KeyError, Undecodable, UnicodeDecodeError) as error:
            raise CannotFold(f"{record.topic}/{record.partition} offset {record.offset}", error) from error


class HeardFacts:
    """What a projection hears in one lane, in an order that causes allow. `parked`: records it put aside, of no row."""

    def __init__(
        self,
        service: Service,
        codec: Codec,
        logs: Mapping[str, LogReader],
        partition: int,
        positions: Ends,
        clock: Mapping[str, int],
        partition_of: PartitionOf,
        parked: Collection[Origin] = (),
    ) -> None:
        self._codec = codec
        self._logs = logs
        self._opener = Opener(service, codec, partition_of)
        self._lane = HearingAll(service.name, partition, service.topics, Holding(0, positions, clock, 0, 0))
        self._read = dict(self._lane.positions)
        self._parked = frozenset(parked)

    async def up_to(self, ends: Ends) -> AsyncIterator[Stretch]:
        """Everything below these offsets, from where the last call ended. Raises `FactsMissing`, `CannotFold`."""
        partition = self._lane.partition
        found = {
            topic: log.records([topic], _only(topic, partition, ends), _only(topic, partition, self._read))
            for topic, log in self._logs.items()
        }
        while True:
            read = 0
            for topic, records in found.items():
                if self._lane.queued(topic) < RECORDS and (some := list(islice(records, RECORDS))):
                    for record in some:
                        self._lane.push(record)
                    self._read[topic] = some[-1].offset + 1
                    read += len(some)
            stretch = await self._heard()
            if stretch is not None:
                yield stretch
            elif not read:
                self._lane.expect_all()
                # What is left waits for causes beyond these ends; what is not, and was not heard, is nobody's fact.
                if (positions := self._positions()) != self._lane.positions:
                    self._lane.positions = positions
                    yield Stretch((), positions, self._lane.clock, 0)
                return

    def _positions(self) -> dict[str, int]:
        lane = self._lane
        read = {topic: at if lane.queued(topic) else self._read[topic] for topic, at in lane.positions.items()}
        return lane.held_positions(read)

    async def _heard(self) -> Stretch | None:
        lane = self._lane
        draft = lane.order(RECORDS)
        if not draft.moved and not draft.deliveries:
            return None
        await self._codec.learn(delivery.record.value for delivery in draft.deliveries)
        # A speaker's clock only grows: its last fact says all that those before it knew.
        for delivery in {each.envelope.speaker: each for each in draft.deliveries}.values():
            draft.hear(delivery)
        events: list[tuple[Event, str]] = []
        for one in self._opener.open(draft):
            record = one.delivery.record
            if self._parked and (record.topic, record.partition, record.offset) in self._parked:
                continue
            if one.problem is not None:
                raise CannotFold(f"{record.topic}/{record.partition} offset {record.offset}", one.problem)
            if one.event is not None:
                events.append((one.event, one.key))
        lane.adopt(draft)
        positions = lane.held_positions(lane.positions)
        return Stretch(events, positions, lane.clock, sum(map(len, draft.taken.values())))


class HearingAll(HearingAgain):
    """A lane that must hear all that there was to hear, and passes over strays."""

    def __init__(self, me: str, partition: int, topics: Collection[str], holding: Holding) -> None:
        super().__init__(me, partition, topics, holding)
        self._strays = {topic: Strays() for topic in topics}

    def _take_next(
        self, topic: str, clock: Clock, deliveries: list[Delivery], taken: dict[str, list[Delivery]]
    ) -> Verdict | None:
        """As ever, but where one that hears for the first time would halt."""
        while (verdict := super()._take_next(topic, clock, deliveries, taken)) is Verdict.GAP:
            self.halted = None
            stray = self._queues[topic].popleft()
            assert isinstance(stray, Delivery)
            self._strays[topic].pass_over(stray.record.offset, stray.envelope.sequence)
        return verdict

    def held_positions(self, positions: Ends) -> dict[str, int]:
        """From where to read on, for whoever remembers no strays."""
        return {topic: self._strays[topic].held(at, self.clock.get(topic, 0)) for topic, at in positions.items()}

    def expect_all(self) -> None:
        """Nothing more will come. Raises `FactsMissing` for a gap, unless what was missing waits for its causes."""
        for topic, strays in self._strays.items():
            known = self.clock.get(topic, 0)
            if (stray := strays.left(known)) is not None and not self.queued(topic):
                raise FactsMissing(self.me, topic, self.partition, stray.offset, known, stray.sequence)


def _only(topic: str, partition: int, offsets: Ends) -> dict[Where, int]:
    return {(topic, partition): offsets.get(topic, 0)}


class At(Protocol):
    """Where a lane is."""

    @property
    def partition(self) -> int: ...
    @property
    def positions(self) -> Mapping[str, int]: ...
    @property
    def clock(self) -> Mapping[str, int]: ...


def stretches_of(
    service: Service,
    codec: Codec,
    new_log: Callable[[], LogReader],
    at: At,
    partition_of: PartitionOf,
    parked: Collection[Origin] = (),
) -> OwnFacts | HeardFacts:
    """The facts that the rows of this service follow from, in one lane from there on."""
    if service.is_projection:
        logs = {topic: new_log() for topic in service.topics}
        return HeardFacts(service, codec, logs, at.partition, at.positions, at.clock, partition_of, parked)
    return OwnFacts(service, codec, new_log(), at.partition, at.positions, at.clock)


def topics_of(service: Service) -> tuple[str, ...]:
    """The topics whose facts are folded into its rows."""
    return service.topics if service.is_projection else (service.name,)
