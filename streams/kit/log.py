"""The log as the worker sees it: records come in by partition, facts go out by partition, in order."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from streams.kit.errors import PavaneError, RecordsAstray, Then


class LogAway(PavaneError):
    """The log does not say where it starts and ends: the lane is taken again later."""

    then = Then.RETAKE


class LogBegunAnew(LogAway):
    """The log took facts at an offset that it had given before: it has lost what was there, and whoever takes the lane
    again sees what is missing."""

    def __init__(self, topic: str, partition: int, offset: int, expected: int) -> None:
        super().__init__(
            f"{topic}/{partition} took facts at offset {offset}, though it had {expected} records: it has lost some, "
            f"its lane is looked at again"
        )


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record as it was read. `timestamp`: milliseconds since 1970. Kafka allows headers without a value (None).

    There are many of these, and of what is made of them, at once: they are small, and no part of any cycle.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class ToSay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One record to append. `timestamp`: milliseconds since 1970."""

    topic: str
    timestamp: int
    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class Answered(NamedTuple):
    """A request, by its offset and correlation, and the `sequence` of the fact that answers it."""

    offset: int
    correlation: str
    sequence: int


class Said(NamedTuple):
    """What a topic holds of its speaker, by sequence: the `last` fact, and the last one up to the one asked for, which
    counts as there where nobody can tell. `answered`: by topic of requests, some of those that facts there answer, the
    last ones first.
    """

    last: int
    up_to: int
    answered: Mapping[str, Sequence[Answered]] = {}


class Extent(NamedTuple):
    """Where a partition of a topic starts and ends: the first offset kept and the next to be written."""

    start: int
    end: int


class Log(Protocol):
    """A partitioned log with single-writer topics. Implemented on Kafka; simulated, with faults, in the kit's tests."""

    @property
    def partition_count(self) -> int:
        """How many lanes there are. A topic may have more partitions than that; the spare ones are nobody's."""
        ...

    def assigned(self) -> Mapping[int, int]:
        """The partitions that the group gives to this instance now, each with a number that grows when it is given."""
        ...

    async def extents(self, partition: int, *also: str) -> Mapping[str, Extent]:
        """Start and end of the partition in every topic heard, and in `also`. Raises `LogAway`."""
        ...

    def astray(self) -> Mapping[int, RecordsAstray]:
        """The spare partitions of topics heard that were lately seen to hold records; all should be empty."""
        ...

    async def last_said(self, topic: str, partition: int, known: int) -> Said | None:
        """What the end of a topic holds of its speaker, looking back until the fact `known` is found.

        None: nothing is kept any more, so nobody can tell. Raises `LogAway`.
        """
        ...

    async def correlation(self, topic: str, partition: int, offset: int) -> str | None:
        """That of the request at the offset; None: there is none, or it cannot be read. Raises `LogAway`."""
        ...

    def seek(self, partition: int, positions: Mapping[str, int]) -> None:
        """Read the partition from these offsets on, topic by topic; what was read ahead of it is forgotten."""
        ...

    async def read(self, wanted: Collection[tuple[str, int]], timeout_seconds: float) -> Iterable[Record]:
        """Records of the (topic, partition) pairs wanted, in offset order each; none if none came in time."""
        ...

    async def report(self, positions: Mapping[tuple[str, int], int]) -> Mapping[tuple[str, int], int]:
        """Tell lag tools how far each (topic, partition) was heard; how many records are still to come, where known."""
        ...

    async def append(self, partition: int, facts: Sequence[ToSay]) -> None:
        """Append in order; returns when all are acknowledged. On any error it is unknown which were appended. Raises
        `LogBegunAnew` when the log has lost what was acknowledged before."""
        ...
