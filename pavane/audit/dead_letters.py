"""Records that a service could not handle: put aside for good, or parked until it can. Counted and listed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pavane.audit.report import Tally, Verdict
from pavane.audit.snapshot import Snapshot
from pavane.audit.waiting import then
from pavane.operators.words import cut
from streams.kit import envelope
from streams.kit.envelope import Envelope, with_values
from streams.kit.log import Record

MOST_CHARACTERS = 200
MOST_OF_A_KEY = 100


class DeadLetter(NamedTuple):
    """One record that a service put aside. `origin`: topic/partition/offset of the record; `id`: its own."""

    id: str
    origin: str
    key: str
    reason: str
    message: str


def parked(snapshots: Mapping[str, Snapshot]) -> Verdict:
    """How many records wait, and behind what. They are not lost, and what they hold up is not settled yet.

    A request that is wrong itself holds up nothing: it is among the dead letters only.
    """
    waiting = "Parked: records that wait to be handled, with all that concerns the same order."
    tally = Tally("parked", waiting, lists=True)
    for name, snapshot in snapshots.items():
        holding = [each for each in snapshot.parked if each.holds]
        tally.checked += len(holding)
        tally.unsettled += len(holding)
        tally.until_redrive += sum(snapshot.heads[each.partition, each.key].retry_at is None for each in holding)
        for each in snapshot.heads.values():
            key, message = cut(each.key, MOST_OF_A_KEY), cut(each.message, MOST_CHARACTERS)
            tally.note(
                f"{name}/{each.partition}/{each.number}: {each.topic}/{each.partition}/{each.offset} about {key}: "
                f"{each.reason}: {message}; {then(each)}"
            )
    return tally.verdict()


def listed(letters: Sequence[DeadLetter]) -> Verdict:
    """How many records were put aside, and why, the last ones first. They break no invariant; what they stop may."""
    put_aside = "Dead letters: records that a service could not handle, each with its reason."
    tally = Tally("dead-letters", put_aside, lists=True)
    tally.checked = len(letters)
    for letter in reversed(letters):
        key, message = cut(letter.key, MOST_OF_A_KEY), cut(letter.message, MOST_CHARACTERS)
        tally.note(f"{letter.id}: {letter.origin} about {key}: {letter.reason}: {message}")
    return tally.verdict()


def envelope_of(record: Record) -> Envelope:
    """The envelope that a dead letter has of its own, besides the headers of the record put aside.

    Raises `ValueError` when it is no dead letter of ours.
    """
    found = dict(with_values(record.headers))
    try:
        own_id, origin = found["dead_letter_id"].decode(), found["dead_letter_origin"].decode()
        clock = envelope.read_clock(found["dead_letter_clock"])
    except KeyError as error:
        raise ValueError(f"the header {error} is missing") from None
    speaker, partition, number = own_id.rsplit("/", 2)
    heard = {who: known for who, known in clock.items() if who != speaker}
    return Envelope(own_id, speaker, int(partition), int(number), heard, origin, "", None)


def letter_of(record: Record) -> DeadLetter:
    """What a dead letter says about the record that was put aside."""
    found: Mapping[str, bytes] = dict(with_values(record.headers))
    return DeadLetter(
        text(found.get("dead_letter_id")),
        text(found.get("dead_letter_origin")),
        text(record.key),
        text(found.get("dead_letter_reason")),
        text(found.get("dead_letter_message")),
    )


def text(found: bytes | None) -> str:
    """Bytes that should be text, for people to read."""
    return found.decode(errors="replace") if found is not None else ""
