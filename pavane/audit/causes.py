"""Causal delivery, as far as the log shows it: every fact comes after what it answers, and its clock proves it.

The clock of a fact is a vector clock: whoever knows the n-th fact of a speaker knows all that this speaker knew then,
and nobody knows what was not said yet. (Mattern, "Virtual time and global states of distributed systems", 1989.) So
a service that heard an answer before its question is found by its next fact.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from pavane.audit.lanelog import NO_CAUSE, LaneLog
from pavane.audit.ledger import Ledger
from pavane.audit.report import Tally, Verdict
from pavane.audit.snapshot import Snapshot
from pavane.operators.words import count
from streams.kit.lane import DUE, REQUESTS


class Kind(Enum):
    """What a flaw comes to."""

    WRONG = "nothing that is still to come can mend it"
    UNREAD = "it may only not have been read yet"
    WAITS = "an outbox is about to say it again"
    UNKEPT = "the log need not hold any more what would show it"


class Flaw(NamedTuple):
    """Something that the fact at this place of its lane contradicts."""

    at: int
    what: str
    kind: Kind = Kind.WRONG


def after_causes(ledger: Ledger, snapshots: Mapping[str, Snapshot]) -> Verdict:
    """Every fact's cause exists, is about the same key, and is within the fact's clock; clocks contain each other.

    Facts that were committed after the snapshots may know what was said after the log's end was taken: that is not
    settled yet.
    """
    tally = Tally(
        "after-causes",
        "Every fact's cause exists and was known to its speaker, and so was all that the speaker of the cause knew.",
    )
    for (topic, partition), lane in ledger.lanes.items():
        snapshot = snapshots.get(topic)
        if snapshot is None:
            continue
        tally.checked += len(lane)
        settled, unkept = snapshot.known(partition, topic), 0
        for find in (_causes, _clocks):
            for flaw in find(ledger, lane):
                sequence = lane.sequences[flaw.at]
                if flaw.kind is Kind.WAITS or (flaw.kind is Kind.UNREAD and sequence > settled):
                    tally.unsettled += 1
                elif flaw.kind is Kind.UNKEPT:
                    unkept += 1
                else:
                    about = _about(ledger, lane, flaw.at)
                    tally.violation(f"{topic}/{partition}/{sequence} about {about}: {flaw.what}")
        if unkept:
            tally.note(f"{topic}/{partition}: {count(unkept, 'fact')} answer or know requests that are no longer kept")
    return tally.verdict()


def _causes(ledger: Ledger, lane: LaneLog) -> Iterator[Flaw]:
    judges: dict[int, Callable[[int, int], Flaw | None]] = {}
    for at, (topic, number) in enumerate(zip(lane.cause_topics, lane.cause_numbers, strict=True)):
        if topic == NO_CAUSE:
            yield Flaw(at, "it names no cause that can be read")
            continue
        judge = judges.get(topic)
        if judge is None:
            judge = judges[topic] = _judge_of(ledger, lane, ledger.topic(topic))
        flaw = judge(at, number)
        if flaw is not None:
            yield flaw


def _judge_of(ledger: Ledger, lane: LaneLog, topic: str) -> Callable[[int, int], Flaw | None]:
    """How a cause on this topic is judged."""
    if topic.endswith(DUE):
        return lambda at, key: _same_key(ledger, lane, at, key, f"a deadline of {ledger.keys.text(key)}")
    find: Callable[[int], int | None]
    if topic.endswith(REQUESTS):
        requests = ledger.requests_of(topic, lane.partition)
        find, keys, shift = requests.index, requests.keys, 1
    else:
        other = ledger.lane(topic, lane.partition)
        find, keys, shift = other.index, other.keys, 0
    clock = lane.clocks.get(topic)
    start = ledger.start(topic, lane.partition)
    replaced = max(ledger.decided(lane.speaker, topic, lane.partition), default=0)

    def judge(at: int, number: int) -> Flaw | None:
        cause = f"its cause {topic}/{lane.partition}/{number}"
        found, is_replaced = find(number), lane.sequences[at] <= replaced
        if found is None:
            kind = _missing(ledger, topic, lane.partition, number)
            return Flaw(at, f"{cause} is not in the log", Kind.UNKEPT if number < start or is_replaced else kind)
        known = clock[at] if clock is not None else 0
        if known < number + shift:
            return Flaw(at, f"{cause} is beyond its clock, which knows {topic} up to {known}")
        flaw = _same_key(ledger, lane, at, keys[found], cause)
        return flaw._replace(kind=Kind.UNKEPT) if flaw is not None and is_replaced else flaw

    return judge


def _missing(ledger: Ledger, topic: str, partition: int, number: int) -> Kind:
    return Kind.WAITS if ledger.is_waiting(topic, partition, number) else Kind.UNREAD


def _same_key(ledger: Ledger, lane: LaneLog, at: int, key: int, cause: str) -> Flaw | None:
    if key == lane.keys[at]:
        return None
    return Flaw(at, f"{cause} is about {ledger.keys.text(key)}")


def _clocks(ledger: Ledger, lane: LaneLog) -> Iterator[Flaw]:
    """Whatever a fact's clock knows exists, and its clock contains the clocks of what it knows."""
    for speaker, column in lane.clocks.items():
        if speaker.endswith(REQUESTS):
            yield from _known_requests(ledger, lane, speaker)
            continue
        other = ledger.lane(speaker, lane.partition)
        nothing = array("q", bytes(8 * len(lane)))
        pairs = [
            (third, theirs, lane.sequences if third == lane.speaker else lane.clocks.get(third, nothing))
            for third, theirs in other.clocks.items()
        ]
        known = 0
        for at, claimed in enumerate(column):
            if claimed in (known, 0):
                continue
            known = claimed
            found = other.index(claimed)
            if found is None:
                what = f"its clock knows {speaker} up to {claimed}, the log to {other.last}"
                yield Flaw(at, what, _missing(ledger, speaker, lane.partition, claimed))
                continue
            for third, theirs, mine in pairs:
                if theirs[found] > mine[at] or (mine is lane.sequences and theirs[found] == mine[at]):
                    flaw = _beyond(lane, at, f"{speaker}/{other.partition}/{claimed}", third, theirs[found])
                    is_replaced = theirs[found] <= ledger.replaced(third, lane.partition)
                    yield flaw._replace(kind=Kind.UNKEPT) if is_replaced else flaw


def _beyond(lane: LaneLog, at: int, fact: str, third: str, knew: int) -> Flaw:
    """The fact at `at` knows `fact`, whose speaker knew more of a third one than can be, or than the lane does."""
    if third == lane.speaker:
        return Flaw(at, f"it knows {fact}, which knew {third} up to {knew} already")
    knows = lane.clocks[third][at] if third in lane.clocks else 0
    return Flaw(
        at,
        f"its speaker had heard {fact}, which knew {third} up to {knew}, but {third} itself only up to {knows}: an "
        f"answer was heard before its question",
    )


def _known_requests(ledger: Ledger, lane: LaneLog, topic: str) -> Iterator[Flaw]:
    last, unkept = ledger.requests_of(topic, lane.partition).last, ledger.unkept(topic, lane.partition)
    for at, claimed in enumerate(lane.clocks[topic]):
        if claimed > last:
            what = f"its clock knows {topic} up to offset {claimed - 1}, the log ends at {last}"
            yield Flaw(at, what, Kind.UNKEPT if claimed <= unkept else Kind.UNREAD)


def _about(ledger: Ledger, lane: LaneLog, at: int) -> str:
    name = lane.names[at]
    return f"{ledger.keys.text(lane.keys[at])} ({ledger.names.text(name) if name >= 0 else 'unread'})"
