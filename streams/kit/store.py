"""What a worker asks of its database, and nothing more: rows, lanes and outbox, moved together in one transaction.

The invariant: positions, clock, rows and outbox of a lane change in the same transaction, and only while the lane's
epoch is the one that the batch was read under. `PostgresStore` keeps it; the kit's simulation has a store with faults.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from streams.kit.errors import PavaneError, Then
from streams.kit.events import State
from streams.kit.lane import Draft, Holding
from streams.kit.log import ToSay
from streams.kit.parking import Parked
from streams.kit.rows import Changes, Wanted


class DatabaseAway(PavaneError):
    """The database cannot be asked now, or it is unknown whether the last batch was committed: take the lanes again."""

    then = Then.RETAKE


class DatabaseLost(DatabaseAway):
    """The server answers, but there is no such database, or it has no tables."""

    def __init__(self, service: str, what: str) -> None:
        super().__init__(
            f"the database is lost: {what}. Nothing is guessed: 'pavane rebuild {service} --swap --reason ...' makes "
            f"it again from the log. (A new one gets its tables from 'pavane migrate'.)"
        )


class BatchRefused(PavaneError):
    """The database refuses a value of the batch, whoever asks: one of its records is to be put aside."""

    then = Then.AGAIN


class Deadlocked(PavaneError):
    """The database ended this batch because it and another one waited for each other: nothing was changed."""

    then = Then.AGAIN


class Move(NamedTuple):
    """What a batch does to one lane: the draft, and the last outbox row that is known to be in the log."""

    draft: Draft
    acknowledged: int


Found = Mapping[type[State], Sequence[State]]


class Transaction(Protocol):
    """The one transaction of a batch. Left without `commit`, it changes nothing."""

    async def load(self, wanted: Wanted) -> Found:
        """Own rows as they are; shared rows locked, in key order."""
        ...

    async def commit(self, moves: Sequence[Move], changes: Sequence[Changes]) -> None:
        """Write everything and commit, durably. Raises `StaleEpoch`, `BatchRefused`, `Deadlocked`, `DatabaseAway`."""
        ...


class Store(Protocol):
    """Raises `DatabaseAway` from anything when the database does not answer."""

    async def lane_count(self) -> int | None:
        """How many lanes there were when the first one was taken; None when none ever was."""
        ...

    async def take_over(
        self, partition: int, partition_count: int
    ) -> tuple[Holding, Sequence[tuple[int, list[ToSay]]]]:
        """Raise the lane's epoch; what the database knows of it, and the outbox rows not known to be in the log."""
        ...

    async def load(self, wanted: Wanted) -> Found:
        """Rows as they are, outside of any transaction."""
        ...

    async def due(
        self, state: type[State], partitions: Collection[int], now: datetime, limit: int, without: Collection[str] = ()
    ) -> Sequence[State]:
        """Rows of these partitions whose `due_at` is not after `now`, the oldest first, `without` some keys."""
        ...

    async def to_retry(self, partitions: Collection[int], now: datetime, limit: int) -> Sequence[tuple[int, Parked]]:
        """Parked records of these partitions whose `retry_at` is not after `now`, as (partition, record)."""
        ...

    def transaction(self, drafts: Sequence[Draft]) -> AbstractAsyncContextManager[Transaction]:
        """Begin, and lock the lanes of the drafts. Raises `StaleEpoch` when one of them has another owner."""
        ...

    async def acknowledge(self, rows: Mapping[int, tuple[int, int]]) -> None:
        """Note for each partition, as (epoch, row), the last outbox row in the log, if the epoch still holds.

        Every batch notes it as well; this is for lanes that have nothing to hear.
        """
        ...

    async def note_halted(self, partition: int, epoch: int | None, reason: str) -> None:
        """Write down why the lane is halted, for operators; under its epoch, if it was taken. A takeover wipes it."""
        ...

    async def epochs(self, partitions: Collection[int]) -> Mapping[int, int]:
        """The epochs of these lanes, as they are now."""
        ...

    async def given_up(self, partition: int) -> int:
        """The last fact of its own up to which somebody has accepted that the log lacks some; 0: nobody has."""
        ...

    async def decided(self, topic: str, service: str, partition: int) -> int:
        """The last fact of its own before somebody decided last from where on the topic is heard; 0: nobody has."""
        ...

    async def forget_said(self, rows: Mapping[int, int], before: datetime) -> int:
        """Delete outbox rows up to a number in each partition that were said before a time; how many there were."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...
