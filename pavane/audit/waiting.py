"""What keeps a service from having handled something: a parked record of the same key, or that it is not there yet."""

from typing import NamedTuple

from pavane.audit.snapshot import Parked, Snapshot
from pavane.operators.words import cut
from streams.kit.parking import AT_ONCE

MOST_CHARACTERS = 200


class Waiting(NamedTuple):
    """In words, with the command that tells more. `redrive`: it does not go on before somebody decides."""

    what: str
    redrive: bool = False


def waiting_for(snapshot: Snapshot, speaker: str, partition: int, sequence: int, key: str) -> Waiting | None:
    """Why the service has not handled this fact about `key`. None: it has, and nothing about the key is parked, so all
    that follows from the fact is in this snapshot."""
    if (head := snapshot.heads.get((partition, key))) is not None:
        return parked(snapshot.name, head)
    if snapshot.known(partition, speaker) < sequence:
        return unheard(snapshot.name)
    return None


def unheard(service: str) -> Waiting:
    """It has not come that far."""
    return Waiting(f"{service} has yet to hear it: 'pavane lanes list {service}'")


def parked(service: str, head: Parked) -> Waiting:
    """This record comes first, and is parked."""
    own_id = f"{service}/{head.partition}/{head.number}"
    return Waiting(
        f"in {service} it is held up by {own_id} ({head.reason}: {cut(head.message, MOST_CHARACTERS)}; {then(head)}): "
        f"'pavane dead-letters show {own_id}'",
        head.retry_at is None,
    )


def then(head: Parked) -> str:
    """What becomes of a parked record that nobody touches."""
    if head.retry_at is None:
        return "waits for a redrive"
    return "tried again at once" if head.retry_at == AT_ONCE else f"tried again at {head.retry_at:%H:%M:%S}"
