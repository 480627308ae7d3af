"""Records that a service put aside: read from its dead-letter topic, counted and listed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pavane.audit.report import Tally, Verdict
from streams.kit import envelope
from streams.kit.envelope import Envelope
from streams.kit.log import Record

MOST_CHARACTERS = 200


class DeadLetter(NamedTuple):
    """One record that a service put aside. `origin`: topic/partition/offset of the record; `id`: its own."""

    id: str
    origin: str
    key: str
    reason: str
    message: str


def listed(letters: Sequence[DeadLetter]) -> Verdict:
    """How many records were put aside, and why, the last ones first. They break no invariant; what they stop may."""
    tally = Tally("dead-letters", "Dead letters: records that a service could not handle, each with its reason.")
    tally.checked = len(letters)
    for letter in reversed(letters):
        message = letter.message[:MOST_CHARACTERS]
        tally.note(f"{letter.id}: {letter.origin} about {letter.key}: {letter.reason}: {message}")
    return tally.verdict()


def envelope_of(record: Record) -> Envelope:
    """The envelope that a dead letter has of its own, besides the headers of the record put aside.

    Raises `ValueError` when it is no dead letter of ours.
    """
    found = dict(record.headers)
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
    found: Mapping[str, bytes] = dict(record.headers)
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
