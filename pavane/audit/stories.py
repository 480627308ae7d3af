"""That the timeline's entries are the facts of the log: one each, telling what the fact says, after its cause.

Entries are too many to be kept: of each that the facts make there is a digest. Its ordinal is not in it, as that
depends on how the lane's topics were read; it is only compared with those of causes.
"""

from array import array
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from operator import attrgetter

import msgspec

from pavane.audit.lanelog import LaneLog
from pavane.audit.ledger import Ledger, Where
from pavane.audit.rebuild import read
from pavane.audit.report import Tally, Verdict
from pavane.audit.snapshot import Snapshot
from streams.kit.service import Service
from streams.timeline.model import Entry

_UNTOLD = -1
_told = attrgetter(*(name for name in Entry.__struct_fields__ if name not in ("ordinal", "detail")))
_detail = msgspec.json.Decoder()
_encode = msgspec.msgpack.Encoder(order="sorted").encode


def digest_of(entry: Entry) -> int:
    """64 bits, equal for entries that say the same in whatever order of fields and in whatever time zone."""
    said = _encode((_told(entry), _detail.decode(entry.detail)))
    return int.from_bytes(blake2b(said, digest_size=8).digest(), signed=True)


def entries_told(ledger: Ledger, snapshot: Snapshot) -> Verdict:
    """Every fact of an order that the timeline has heard is one entry. Entries are read once and not kept."""
    tally = Tally(
        "entries-told", "Every fact of an order that the timeline heard is one entry of its story, after its cause."
    )
    topics = snapshot.service.topics
    ordinals = {where: array("q", [_UNTOLD]) * len(lane) for where, lane in ledger.lanes.items() if where[0] in topics}
    for document in snapshot.documents(Entry):
        tally.checked += 1
        entry = read(snapshot.name, Entry, document, tally)
        if entry is not None and (flaw := _flaw(ledger, ordinals, entry)) is not None:
            tally.violation(f"entry {entry.id} of order {entry.order_id}: {flaw}")
    for (topic, partition), told in ordinals.items():
        lane = ledger.lanes[topic, partition]
        for flaw in _untold(ledger, snapshot, lane, told):
            tally.violation(flaw)
        for flaw in _before_cause(ledger, ordinals, lane, told):
            tally.violation(flaw)
    return tally.verdict()


def _flaw(ledger: Ledger, ordinals: Mapping[Where, "array[int]"], entry: Entry) -> str | None:
    """What the entry gets wrong; its ordinal is noted."""
    where, sequence = _place(entry.id)
    lane = ledger.lanes.get(where) if where in ordinals else None
    at = lane.index(sequence) if lane is not None else None
    if lane is None or at is None:
        return None if ledger.is_waiting(*where, sequence) else "the log holds no such fact"
    ordinals[where][at] = entry.ordinal
    if ledger.keys.text(lane.keys[at]) != entry.order_id:
        return f"the fact is about {ledger.keys.text(lane.keys[at])}"
    if lane.names[at] < 0:
        return None
    if ledger.names.text(lane.names[at]) != entry.fact:
        return f"it says {entry.fact}, the fact is {ledger.names.text(lane.names[at])}"
    if not lane.entries[at]:
        return "the timeline has not handled the fact"
    cause_topic = lane.cause_topics[at]
    if cause_topic >= 0 and not entry.cause.startswith(f"{ledger.topic(cause_topic)}/{where[1]}/"):
        return f"it says that its cause is {entry.cause}, which the fact does not"
    if not _is(entry, lane.entries[at]):
        return "its speaker, time, cause, correlation or detail is not what the fact makes it"
    return None


def _is(entry: Entry, digest: int) -> bool:
    try:
        return digest_of(entry) == digest
    except OverflowError:
        # A number of more than 64 bits, which JSON takes and no fact has.
        return False


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
