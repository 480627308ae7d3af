"""One partition of a single-writer topic as numbers: what is needed of every fact once its record was read and dropped.

Some 70 bytes a fact, in flat arrays; in right data the fact with sequence n stands at place n - 1.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from enum import Enum

from streams.kit.log import Record

NO_CAUSE = -1
HIGHEST = 2**63 - 1
"""The highest number that is kept here."""


class Place(Enum):
    """How a record's sequence goes with those before it in the log."""

    NEXT = "the next one"
    REPEAT = "said again"
    GAP = "one or more before it are missing"
    LATE = "its first appearance is after a later one"


class LaneLog:
    """The facts of one speaker in one partition, in the order of their sequences."""

    def __init__(self, speaker: str, partition: int) -> None:
        self.speaker = speaker
        self.partition = partition
        self.sequences = array("q")
        self.offsets = array("q")
        self.digests = array("q")
        #: Of the entries that a view makes of the facts; 0 where none was made.
        self.entries = array("q")
        self.keys = array("l")
        self.names = array("h")
        self.cause_topics = array("h")
        self.cause_numbers = array("q")
        self.clocks: dict[str, array[int]] = {}
        self.latest: Mapping[str, int] = {}
        self.unkept = 0
        """Up to here the log need not hold any more what it does not: retention has taken it."""
        self.strays: dict[int, Record] = {}
        """Facts by sequence, as they came, of which it is not known yet whether what is missing before them comes."""

    @property
    def last(self) -> int:
        """The highest sequence; 0 when there is none."""
        return self.sequences[-1] if self.sequences else 0

    def __len__(self) -> int:
        return len(self.sequences)

    def index(self, sequence: int) -> int | None:
        """Where the fact with that sequence stands; None when the log does not hold it."""
        at = sequence - 1
        if 0 <= at < len(self.sequences) and self.sequences[at] == sequence:
            return at
        at = bisect_left(self.sequences, sequence)
        return at if at < len(self.sequences) and self.sequences[at] == sequence else None

    def ends_below(self, start: int) -> bool:
        """What followed was in the log below this offset, if anything did."""
        return (self.offsets[-1] if self.offsets else -1) + 1 < start

    def judge(self, sequence: int) -> Place:
        """How this sequence goes with what was added."""
        last = self.last
        if sequence == last + 1:
            return Place.NEXT
        if sequence > last:
            return Place.GAP
        return Place.REPEAT if self.index(sequence) is not None else Place.LATE

    def add(
        self,
        sequence: int,
        offset: int,
        digest: int,
        key: int,
        name: int,
        cause: tuple[int, int],
        clock: Mapping[str, int],
    ) -> None:
        """Add the first appearance of a fact. `key`, `name` and the cause's topic are numbers of an `Index`."""
        size = len(self.sequences)
        at = size if sequence > self.last else bisect_left(self.sequences, sequence)
        self.sequences.insert(at, sequence)
        self.offsets.insert(at, offset)
        self.digests.insert(at, digest)
        self.entries.insert(at, 0)
        self.keys.insert(at, key)
        self.names.insert(at, name)
        self.cause_topics.insert(at, cause[0])
        self.cause_numbers.insert(at, cause[1])
        if not clock.keys() <= self.clocks.keys():
            for who in clock.keys() - self.clocks.keys():
                self.clocks[who] = array("q", bytes(8 * size))
        for who, column in self.clocks.items():
            column.insert(at, clock.get(who, 0))

    def missing(self, up_to: int) -> Iterator[tuple[int, int]]:
        """The ranges (first, last) of sequences up to `up_to` that should be here and are not."""
        if up_to <= 0 or (up_to <= len(self.sequences) and self.sequences[up_to - 1] == up_to):
            return
        expected = self.unkept + 1
        for sequence in self.sequences[bisect_left(self.sequences, expected) :]:
            if sequence > up_to:
                break
            if sequence > expected:
                yield expected, sequence - 1
            expected = sequence + 1
        if expected <= up_to:
            yield expected, up_to

    def last_before(self, offset: int) -> int:
        """The highest sequence that appeared first below `offset`."""
        at = bisect_left(self.offsets, offset)
        return self.sequences[at - 1] if at else 0


class RequestLog:
    """The requests in one partition: offset, time, key and event of each; -1 for a key or an event that cannot be read.
    """

    def __init__(self) -> None:
        self.offsets = array("q")
        self.timestamps = array("q")
        self.keys = array("l")
        self.names = array("h")

    @property
    def last(self) -> int:
        """The sequence (offset + 1) of the last request; 0 when there is none."""
        return self.offsets[-1] + 1 if self.offsets else 0

    def last_before(self, position: int) -> int:
        """The sequence (offset + 1) of the last request below `position`; 0 when there is none."""
        at = bisect_left(self.offsets, position)
        return self.offsets[at - 1] + 1 if at else 0

    def index(self, offset: int) -> int | None:
        """Where the request at that offset stands."""
        at = bisect_left(self.offsets, offset)
        return at if at < len(self.offsets) and self.offsets[at] == offset else None


class Index:
    """Numbers for texts that come again and again."""

    def __init__(self, texts: list[bytes] | None = None) -> None:
        self.texts = texts if texts is not None else []
        self._numbers = {text: number for number, text in enumerate(self.texts)}

    def number(self, text: bytes) -> int:
        """The text's number, a new one for a new text."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return number

    def known(self, text: bytes) -> int | None:
        """The text's number, if it has one."""
        return self._numbers.get(text)

    def text(self, number: int) -> str:
        """The text with that number."""
        return self.texts[number].decode(errors="replace") if number >= 0 else "(no key)"
