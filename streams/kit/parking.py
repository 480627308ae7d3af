"""Parking: what cannot be handled now waits with its order, and nobody else waits with it.

A record whose decision fails is put aside, and its key is *held*: later records of that key are parked behind it, in
order, while every other key goes on. The clock moves over parked records, since the database has them: they are part of
the lane's state, written in the same transaction as everything else.

The head of a held key, its oldest parked record, is tried again when its `retry_at` has come: by itself when the
outside world did not answer, or the registry did not say how the record was written; by an operator's redrive when a
decision failed. Only when it succeeds does the next one follow. A request that is itself wrong is parked alone and
holds nobody.

What calls all of it off (`Service.hears(..., overtakes=True)`) does not wait. When the world does not answer it either,
it is parked as the last of its key, and is tried in place of the head.

Only the lane's owner knows in memory which keys are held, so only it takes parked records out. An operator who discards
one marks it; when its turn comes, the owner lets go of it without a decision.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from streams.kit.envelope import Envelope, with_values
from streams.kit.errors import RegistryAway, Undecodable
from streams.kit.log import Record

FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
#: The world may ask for more: nobody is believed who says to come again in a year.
LONGEST_RETRY_AFTER_SECONDS = 3_600.0
MOST_DOUBLINGS = 20
AT_ONCE = datetime.fromtimestamp(0, UTC)
"""The `retry_at` of what is tried with the next batch: whoever sets it, the worker's clock is not behind it."""
BEHIND = "Behind"
"""The reason of a record that waits behind another one of its key."""
UNREAD = RegistryAway.__name__
"""The reason of a record that cannot be read before the registry says how it was written."""
UNANSWERED = "Unanswered"
"""The reason of a record whose effect the outside world did not answer."""
REBUILT = "Rebuilt"
"""The reason of a record that was heard and not handled when the database was lost: why not, nobody knows any more."""
WITHOUT_LETTER = frozenset({BEHIND, UNREAD, UNANSWERED, REBUILT})
"""The reasons of records that nothing is wrong with, as far as is known: no dead letter tells of them."""
NOT_KNOWN = frozenset({UNREAD, Undecodable.__name__, REBUILT})
"""The reasons of records that may be nobody's business here: it was not known what they are."""
DISCARDED = "Discarded"
"""The reason of a record that an operator discarded: it is let go of as soon as nothing of its key is before it."""


class Parked(msgspec.Struct, frozen=True, gc=False):
    """One parked record. `retry_at`: when it is tried next; None until an operator asks, or its turn comes."""

    number: int
    key: str
    holds: bool
    record: Record
    envelope: Envelope
    reason: str
    message: str
    attempts: int
    retry_at: datetime | None


class Parking:
    """What one batch does to the parked records of one lane, begun from what the lane holds."""

    def __init__(self, held: Mapping[str, int], last: int) -> None:
        self.held = dict(held)
        self.last = last
        self.added: list[Parked] = []
        self.tried: list[Parked] = []
        self.released: list[Parked] = []
        #: Keys whose head holds them no more: the next record of each may be tried at once.
        self.freed: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Nothing was parked, tried again or released."""
        return not (self.added or self.tried or self.released)

    def holds(self, key: str) -> bool:
        """Records of this key must wait behind another one."""
        return self.held.get(key, 0) > 0

    def add(
        self,
        record: Record,
        envelope: Envelope,
        key: str,
        reason: str,
        message: str,
        *,
        holds: bool = True,
        attempts: int = 1,
        retry_at: datetime | None = None,
    ) -> None:
        """Park a record that was heard; with `holds`, what comes after it of its key will wait."""
        self.last += 1
        record = replace(record, headers=with_values(record.headers))
        self.added.append(Parked(self.last, key, holds, record, envelope, reason, message, attempts, retry_at))
        if holds:
            self.held[key] = self.held.get(key, 0) + 1

    def try_later(
        self, parked: Parked, reason: str, message: str, retry_at: datetime | None, *, holds: bool = True
    ) -> None:
        """It failed again: it stays at the head of its key, or holds nobody any more."""
        holds = parked.holds and holds
        attempts = parked.attempts + 1
        self.tried.append(
            replace(parked, reason=reason, message=message, attempts=attempts, retry_at=retry_at, holds=holds)
        )
        if not holds:
            self._free(parked)

    def release(self, parked: Parked) -> None:
        """It was handled: the next one of its key may be tried, if there is one."""
        self.released.append(parked)
        self._free(parked)

    def _free(self, parked: Parked) -> None:
        if parked.holds:
            self.freed.append(parked.key)
            # An owner that lost the lane may see what its successor parked and not know the key: it cannot commit.
            left = self.held.pop(parked.key, 1) - 1
            if left:
                self.held[parked.key] = left


def next_try(now: datetime, attempts: int, at_least_seconds: float) -> datetime:
    """When to ask again what the world did not answer: pauses double from a second to a minute, and are longer where it
    asks for that, up to an hour."""
    doublings = min(attempts - 1, MOST_DOUBLINGS)
    pause = min(FIRST_RETRY_SECONDS * 2.0**doublings, LONGEST_RETRY_SECONDS)
    return now + timedelta(seconds=max(pause, min(at_least_seconds, LONGEST_RETRY_AFTER_SECONDS)))
