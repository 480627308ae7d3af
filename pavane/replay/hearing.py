"""In which order a lane heard its records, and what it said to which: told by the clocks and causes in its own facts.

The clock of a fact says exactly how far its speaker had heard each topic when it said it, and its cause says to what.
So between one fact and the next the lane had heard what the one clock lacks and the other has. Of records that were
answered by nothing the order among themselves is not told, and does not matter: no row of the lane changed between
them. Where several orders go with the causes, the lane's own rule (`streams.kit.lane`) chooses one.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pavane.rehearing import HearingAgain, Stray, Strays
from pavane.replay.errors import CannotReplay
from pavane.replay.history import History
from streams.kit import envelope
from streams.kit.envelope import Envelope
from streams.kit.lane import DEAD_LETTERS, DUE, REQUESTS, Delivery, Holding
from streams.kit.log import Record
from streams.kit.parking import DISCARDED
from streams.kit.service import Service

END = math.inf
EVERYTHING = 1 << 60


class Moment(NamedTuple):
    """What a lane heard since its last fact, and what it then said to the event `cause`.

    `timestamp`: when it was said, in milliseconds since 1970; `END` for what was heard after the last fact. `offset`:
    of the first of the `facts`. `cause` is the id of one of `heard`, of a deadline, or of a record heard earlier that
    waited until then.
    """

    partition: int
    timestamp: float
    offset: int
    heard: tuple[Delivery, ...]
    cause: str
    facts: tuple[Record, ...]


class Past:
    """One lane's past. `lane` is where it has got to."""

    def __init__(self, service: Service, partition: int, history: History) -> None:
        self.lane = HearingAgain(service.name, partition, service.topics, Holding(0, {}, {}, 0, 0))
        self._service = service
        self._heard = history.heard.get(partition, {})
        self._most = self._heard.get(service.name, 0) if partition in history.heard else EVERYTHING
        self._topics = {topic: Ahead(history.records(topic, partition)) for topic in service.topics}
        self._said = history.records(service.name, partition)

    def moments(self) -> Iterator[Moment]:
        """Every moment, in order. Raises `CannotReplay` where the log does not tell them all."""
        facts: list[Record] = []
        about: Envelope | None = None
        for said, record in self._facts():
            if about is not None and said.cause == about.cause:
                facts.append(record)
                continue
            if about is not None:
                yield self._moment(about, facts)
            about, facts = said, [record]
        if about is not None:
            yield self._moment(about, facts)
        said_last = self.lane.clock.get(self._service.name, 0)
        if self._heard.get(self._service.name, 0) == said_last:
            # Else its last facts are on their way to the log, and what they answer cannot be told yet.
            yield Moment(self.lane.partition, END, -1, self._hear(self._heard), "", ())

    def _facts(self) -> Iterator[tuple[Envelope, Record]]:
        """What the lane said, each fact once, whoever else wrote there. What it has said since is of no past: nobody
        told what waited by then."""
        last, strays, most = 0, Strays(), self._most
        for record in self._said:
            said = envelope.of_own(record.topic, record.partition, record.headers)
            if said is None or not last < said.sequence <= most:
                continue
            if said.sequence != last + 1:
                strays.pass_over(record.offset, said.sequence)
                continue
            last = said.sequence
            yield said, record
        if (stray := strays.left(last)) is not None:
            raise CannotReplay(
                f"{self._told(self._service.name, stray, last)}: the rows of then cannot be told. A replay needs the "
                f"service's topic from its start."
            )

    def _told(self, topic: str, stray: Stray, last: int) -> str:
        return (
            f"{topic}/{self.lane.partition}, offset {stray.offset} is fact {stray.sequence} of its lane, but the one "
            f"before it in the log is {last}"
        )

    def _moment(self, about: Envelope, facts: list[Record]) -> Moment:
        heard = self._hear(about.heard)
        self.lane.clock[self._service.name] = about.sequence + len(facts) - 1
        first = facts[0]
        return Moment(self.lane.partition, first.timestamp, first.offset, heard, about.cause, tuple(facts))

    def _hear(self, clock: Mapping[str, int]) -> tuple[Delivery, ...]:
        """Hear everything that the clock knows; what of it is new."""
        for topic, ahead in self._topics.items():
            known = clock.get(topic, 0)
            while (record := ahead.first) is not None and ahead.sequence <= known:
                self.lane.push(record)
                ahead.next()
            if record is None and ahead.last < known and (stray := ahead.strays.left(ahead.last)) is not None:
                raise CannotReplay(
                    f"{self._told(topic, stray, ahead.last)}: what {self._service.name} heard then cannot be told. "
                    f"Restore the topic from a copy."
                )
        draft = self.lane.order(EVERYTHING)
        if self.lane.halted is not None:
            raise CannotReplay(f"{self._service.name} cannot have heard this: {self.lane.halted}")
        if left := self.lane.held_back():
            raise CannotReplay(
                f"{self._service.name}, lane {self.lane.partition}: {left} records that its clock says were heard must "
                f"wait for others that it says were not: run 'pavane audit'"
            )
        for delivery in draft.deliveries:
            draft.hear(delivery)
        self.lane.adopt(draft)
        return tuple(draft.deliveries)


class Ahead:
    """A topic's records, of which the first one can be seen before it is taken; strays are passed over.

    `sequence`: that of the first one; `last`: the highest one so far.
    """

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self.sequence = self.last = 0
        self.strays = Strays()
        self.first: Record | None = None
        self.next()

    def next(self) -> None:
        for record in self._records:
            sequence = _sequence(record)
            # Of requests offsets are the sequences, and those may have holes.
            if sequence <= self.last + 1 or record.topic.endswith(REQUESTS):
                self.first, self.sequence, self.last = record, sequence, max(self.last, sequence)
                return
            self.strays.pass_over(record.offset, sequence)
        self.first = None


def due(service: str, cause: str, fact: Record) -> Delivery | None:
    """The deadline that a fact names as its cause, as it was heard then; None for another cause."""
    prefix = f"{service}{DUE}/{fact.partition}/"
    if not cause.startswith(prefix):
        return None
    key, topic = cause.removeprefix(prefix), service + DUE
    record = Record(topic, fact.partition, 0, fact.timestamp, key.encode(), None, ())
    return Delivery(record, Envelope(cause, topic, fact.partition, 0, {}, "", key, None))


def dead_letters(service: Service, history: History) -> dict[tuple[str, int, int], str]:
    """What the service has put aside, and why: the name of the error, by the record's origin. That an operator has
    discarded it at last is told only of what had no such error."""
    found: dict[tuple[str, int, int], str] = {}
    for partition in range(history.partition_count):
        for record in history.records(service.name + DEAD_LETTERS, partition):
            headers = dict(envelope.with_values(record.headers))
            origin, reason = headers.get("dead_letter_origin"), headers.get("dead_letter_reason")
            if origin and reason:
                topic, of, offset = origin.decode().rsplit("/", 2)
                place, why = (topic, int(of), int(offset)), reason.decode()
                found[place] = found.get(place, why) if why == DISCARDED else why
    return found


def _sequence(record: Record) -> int:
    """Which one of its speaker it is. Of what is nobody's fact: 0, so that the lane passes over it at once."""
    if record.topic.endswith(REQUESTS):
        return record.offset + 1
    said = envelope.of_own(record.topic, record.partition, record.headers)
    return said.sequence if said is not None else 0
