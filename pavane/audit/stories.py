"""That the timeline's entries are the facts of the log: one each, about the right order, after its cause."""

from array import array
from collections.abc import Iterator, Mapping

from pavane.audit.lanelog import LaneLog
from pavane.audit.ledger import Ledger, Where
from pavane.audit.report import Tally, Verdict
from pavane.audit.snapshot import Snapshot
from streams.kit.service import Service
from streams.timeline.model import Entry

COLUMNS = ("id", "order_id", "fact", "cause", "ordinal")
_UNTOLD = -1


def entries_told(ledger: Ledger, snapshot: Snapshot) -> Verdict:
    """Every fact of an order that the timeline has heard is one entry. Entries are read once and not kept."""
    tally = Tally(
        "entries-told", "Every fact of an order that the timeline heard is one entry of its story, after its cause."
    )
    topics = snapshot.service.topics
    ordinals = {where: array("q", [_UNTOLD]) * len(lane) for where, lane in ledger.lanes.items() if where[0] in topics}
    for told_entry in snapshot.columns(Entry, COLUMNS):
        tally.checked += 1
        flaw = _flaw(ledger, ordinals, *told_entry)
        if flaw is not None:
            tally.violation(f"entry {told_entry[0]} of order {told_entry[1]}: {flaw}")
    for (topic, partition), told in ordinals.items():
        lane = ledger.lanes[topic, partition]
        for flaw in _untold(ledger, snapshot, lane, told):
            tally.violation(flaw)
        for flaw in _before_cause(ledger, ordinals, lane, told):
            tally.violation(flaw)
    return tally.verdict()


def _flaw(
    ledger: Ledger,
    ordinals: Mapping[Where, "array[int]"],
    own_id: str,
    order_id: str,
    fact: str,
    cause: str,
    ordinal: int,
) -> str | None:
    """What the entry gets wrong; its ordinal is noted."""
    where, sequence = _place(own_id)
    lane = ledger.lanes.get(where) if where in ordinals else None
    at = lane.index(sequence) if lane is not None else None
    if lane is None or at is None:
        return "the log holds no such fact"
    ordinals[where][at] = ordinal
    if ledger.keys.text(lane.keys[at]) != order_id:
        return f"the fact is about {ledger.keys.text(lane.keys[at])}"
    if lane.names[at] >= 0 and ledger.names.text(lane.names[at]) != fact:
        return f"it says {fact}, the fact is {ledger.names.text(lane.names[at])}"
    cause_topic = lane.cause_topics[at]
    if cause_topic >= 0 and not cause.startswith(f"{ledger.topic(cause_topic)}/{where[1]}/"):
        return f"it says that its cause is {cause}, which the fact does not"
    return None


def _place(own_id: str) -> tuple[Where, int]:
    """The lane and the sequence that an entry's id names; nowhere, if it is no id."""
    parts = own_id.rsplit("/", 2)
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return ("", 0), 0
    return (parts[0], int(parts[1])), int(parts[2])


def _untold(ledger: Ledger, snapshot: Snapshot, lane: LaneLog, told: "array[int]") -> Iterator[str]:
    """Facts of orders up to the timeline's clock that no entry tells of."""
    of_orders = _numbers(ledger, snapshot.service)
    known = snapshot.known(lane.partition, lane.speaker)
    for at, ordinal in enumerate(told):
        if lane.sequences[at] > known:
            break
        where = (lane.speaker, lane.partition, lane.offsets[at])
        if ordinal == _UNTOLD and lane.names[at] in of_orders and where not in snapshot.unhandled:
            name = ledger.names.text(lane.names[at])
            yield (
                f"{lane.speaker}/{lane.partition}/{lane.sequences[at]} ({name} about "
                f"{ledger.keys.text(lane.keys[at])}) was heard, but no entry tells of it"
            )


def _before_cause(
    ledger: Ledger, ordinals: Mapping[Where, "array[int]"], lane: LaneLog, told: "array[int]"
) -> Iterator[str]:
    """Entries whose ordinal is not above that of their cause."""
    for at, ordinal in enumerate(told):
        if ordinal == _UNTOLD or lane.cause_topics[at] < 0:
            continue
        where = (ledger.topic(lane.cause_topics[at]), lane.partition)
        other = ledger.lanes.get(where)
        cause = other.index(lane.cause_numbers[at]) if other is not None and where in ordinals else None
        if cause is not None and ordinals[where][cause] >= ordinal:
            yield (
                f"entry {lane.speaker}/{lane.partition}/{lane.sequences[at]}: its ordinal {ordinal} is not above "
                f"{ordinals[where][cause]}, that of its cause {where[0]}/{where[1]}/{lane.cause_numbers[at]}"
            )


def _numbers(ledger: Ledger, service: Service) -> frozenset[int]:
    """The numbers of the event names that become entries."""
    found = (
        ledger.names.known(view.__name__.encode())
        for view, evolutions in service.evolutions.items()
        if any(evolution.state is Entry for evolution in evolutions)
    )
    return frozenset(number for number in found if number is not None)
