"""What the log holds, read once from its start: facts by lane, requests by offset, dead letters.

Every record is judged as it goes by (who wrote it, where, with which sequence, knowing what), kept as a few numbers,
and handed on decoded if it is the first appearance of a fact. Facts that are committed but not yet in the log follow
from the outboxes.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from pavane.audit.dead_letters import DeadLetter, envelope_of, letter_of, text
from pavane.audit.decoding import Decoder
from pavane.audit.lanelog import HIGHEST, NO_CAUSE, Index, LaneLog, Place, RequestLog
from pavane.audit.report import Tally, Verdict
from streams.kit import envelope
from streams.kit.envelope import Envelope
from streams.kit.errors import Undecodable
from streams.kit.lane import DEAD_LETTERS, DUE, REQUESTS
from streams.kit.log import Record, ToSay

_encode = msgspec.msgpack.Encoder().encode
Where = tuple[str, int]
PartitionOf = Callable[[bytes], int]
PassedOver = Callable[[str, int, int], bool]
"""Asked with topic, partition and offset."""
Decided = Callable[[str, str, int], Collection[int]]
"""Asked with a topic of facts, one of requests, and the partition: the last facts said each time that somebody decided
where to go on in the requests (`pavane lanes skip`)."""
MOST_STRAYS = 20_000
"""So many facts behind a gap are kept back in a lane, to see whether what is missing still comes."""

PROMISE = (
    "Every lane's sequences have no gap, first appear in order and in the partition of their key, are repeated byte by "
    "byte, and their clocks never go back."
)


class Said(NamedTuple):
    """One fact at its first appearance; `offset` is -1 while only an outbox holds it. `fields`: all that it says."""

    topic: str
    partition: int
    sequence: int
    offset: int
    timestamp: int
    name: str
    key: str
    envelope: Envelope
    fields: dict[str, Any]


class Ledger:
    """Filled by `note` for every record of the log, topic by topic, and then by `unsaid` for what is in the outboxes.

    `partition_of`: where a key belongs. `passed_over`: whether all who hear a topic have gone on behind a record that
    is nobody's fact; then it harms no promise any more, and is only told. `starts`: where the log starts now.

    Requests and dead letters need not be kept for ever, and a topic of requests may have been made again: what is gone
    of those by right is `unkept`.
    """

    def __init__(
        self,
        decoder: Decoder,
        partition_of: PartitionOf,
        passed_over: PassedOver,
        starts: Mapping[Where, int],
        decided: Decided,
    ) -> None:
        self.lanes: dict[Where, LaneLog] = {}
        self.requests: dict[Where, RequestLog] = {}
        self.dead_letters: list[DeadLetter] = []
        self.waiting: dict[Where, set[int]] = {}
        """Sequences that are committed and not in the log, by lane."""
        self.keys = Index()
        self.names = Index()
        self._decoder = decoder
        self._partition_of = partition_of
        self._passed_over = passed_over
        self._starts = starts
        self.decided = decided
        self._homes: dict[int, int] = {}
        self.topics = Index()
        self._sequences = Tally("sequences", PROMISE)
        self._repeats = 0

    def verdict(self) -> Verdict:
        """Of the sequences seen so far."""
        if self._repeats:
            self._sequences.note(
                f"said again, after a failed send or a takeover: {self._repeats:,} facts; their listeners know them"
            )
            self._repeats = 0
        return self._sequences.verdict()

    @property
    def counts(self) -> tuple[int, int]:
        """How many facts were judged, and how many records only said again what was said before."""
        return self._sequences.checked, self._repeats

    @counts.setter
    def counts(self, counts: tuple[int, int]) -> None:
        self._sequences.checked, self._repeats = counts

    @property
    def notes(self) -> tuple[int, Sequence[str]]:
        """How many notes there are, and the first few."""
        verdict = self._sequences.verdict()
        return verdict.note_count, verdict.notes

    @notes.setter
    def notes(self, notes: tuple[int, Sequence[str]]) -> None:
        for note in notes[1]:
            self._sequences.note(note)
        self._sequences.notes = notes[0]

    def topic(self, number: int) -> str:
        """The topic that a cause names by this number."""
        return self.topics.text(number)

    def lane(self, topic: str, partition: int) -> LaneLog:
        """The lane's facts; an empty one for a lane of which nothing was read."""
        lane = self.lanes.get((topic, partition))
        return lane if lane is not None else LaneLog(topic, partition)

    def requests_of(self, topic: str, partition: int) -> RequestLog:
        """The requests of that partition; none where nothing was read."""
        return self.requests.get((topic, partition)) or RequestLog()

    def start(self, topic: str, partition: int) -> int:
        """The offset from which on requests or dead letters are kept. Facts are kept for ever."""
        return self._starts.get((topic, partition), 0) if topic.endswith((REQUESTS, DEAD_LETTERS)) else 0

    def unkept(self, topic: str, partition: int) -> int:
        """The last request that may be gone, or be another one, by right: retention has taken it, or the topic was made
        again and somebody has decided where to go on in it."""
        return max(self.start(topic, partition), self.replaced(topic, partition))

    def replaced(self, topic: str, partition: int) -> int:
        """The last request of which a decision was made: it may be one of a topic of before."""
        speaker = topic.removesuffix(REQUESTS)
        lane = self.lanes.get((speaker, partition))
        decided = max(self.decided(speaker, topic, partition), default=0) if topic != speaker else 0
        if not decided or lane is None or topic not in lane.clocks:
            return 0
        return max(lane.clocks[topic][: bisect_right(lane.sequences, decided)], default=0)

    def letters_from(self, topic: str, partition: int) -> int:
        """From which offset on the dead letters of these requests are kept, as they were put aside in their order."""
        if not self.start(topic.removesuffix(REQUESTS) + DEAD_LETTERS, partition):
            return 0
        where = f"{topic}/{partition}/"
        kept = [each.origin.removeprefix(where) for each in self.dead_letters if each.origin.startswith(where)]
        return min((int(offset) for offset in kept if offset.isdecimal()), default=HIGHEST)

    # -- records -----------------------------------------------------------------------------------------------------

    def note(self, record: Record) -> Sequence[Said]:
        """Take a record; what it says, if it is a fact that was not said before: nothing while facts before it are
        missing. Where those do not come, it is what all that was kept back says."""
        if record.topic.endswith(REQUESTS):
            self._note_request(record)
            return ()
        said = self._letter(record) if record.topic.endswith(DEAD_LETTERS) else self._envelope(record)
        if said is None:
            return ()
        lane = self._lane(record)
        place = lane.judge(said.sequence)
        if place is Place.GAP and lane.ends_below(self.start(record.topic, record.partition)):
            lane.unkept, place = said.sequence - 1, Place.NEXT
        if place is Place.GAP:
            return self._keep_back(lane, record, said)
        if place is Place.REPEAT:
            self._repeats += 1
            self._judge_bytes(record, said, lane.digests[lane.index(said.sequence) or 0])
            return ()
        if lane.strays:
            self._came_again(lane, record, said)
        return self._added(lane, record, said, place)

    def left(self, unsaid: Iterable[tuple[int, ToSay]]) -> Iterator[Said]:
        """The log was read to its end: what the facts say that stand behind a gap, and have not come once more. Where
        an outbox is to say them again, they come."""
        coming: dict[Where, set[int]] = {}
        for partition, fact in unsaid:
            if self.lane(fact.topic, partition).strays and (said := _own(_record(partition, fact))) is not None:
                coming.setdefault((fact.topic, partition), set()).add(said.sequence)
        for where, lane in self.lanes.items():
            if not lane.strays.keys() <= coming.get(where, set()):
                yield from self._given_up(lane)

    def unsaid(self, partition: int, fact: ToSay) -> Said | None:
        """Take a fact from an outbox; what it says, if the log does not hold it."""
        record = _record(partition, fact)
        said = _own(record)
        if said is None:
            return None
        lane = self.lane(fact.topic, partition)
        if (at := lane.index(said.sequence)) is not None:
            if lane.digests[at] != digest_of(record):
                self._broken(record, f"{said.id} was committed with other bytes than the log holds")
            return None
        self.waiting.setdefault((fact.topic, partition), set()).add(said.sequence)
        if fact.topic.endswith(DEAD_LETTERS):
            self.dead_letters.append(letter_of(record))
            return None
        return self._decoded(record, said)

    def is_waiting(self, topic: str, partition: int, sequence: int) -> bool:
        """It is committed, and yet to be said: or said again, after the log was restored."""
        return sequence in self.waiting.get((topic, partition), ())

    def _lane(self, record: Record) -> LaneLog:
        lane = self.lanes.get((record.topic, record.partition))
        if lane is None:
            lane = self.lanes[record.topic, record.partition] = LaneLog(record.topic, record.partition)
        return lane

    def _envelope(self, record: Record) -> Envelope | None:
        """Who says it; None, and a violation, when it is not the topic's owner in its own partition."""
        try:
            said = _countable(envelope.read(record.headers))
        except ValueError as error:
            self._foreign(record, f"it has no envelope of ours ({error}): somebody else than {record.topic} wrote it")
            return None
        if said.speaker != record.topic or said.partition != record.partition:
            self._foreign(record, f"it says that it is {said.id}: it was written to the wrong topic or partition")
            return None
        return said

    def _foreign(self, record: Record, what: str) -> None:
        if self._passed_over(record.topic, record.partition, record.offset):
            where = f"{record.topic}/{record.partition} offset {record.offset}"
            self._sequences.note(f"{where}: {what}; all who hear the topic have passed over it")
        else:
            self._broken(record, what)

    def _keep_back(self, lane: LaneLog, record: Record, said: Envelope) -> Sequence[Said]:
        """A stray: facts before it are missing. Once the log was restored (`pavane log restore`) they come, and then it
        once more: it is heard there."""
        if (before := lane.strays.get(said.sequence)) is not None:
            self._repeats += 1
            self._judge_bytes(record, said, digest_of(before))
            return ()
        lane.strays[said.sequence] = record
        return list(self._given_up(lane)) if len(lane.strays) > MOST_STRAYS else ()

    def _came_again(self, lane: LaneLog, record: Record, said: Envelope) -> None:
        before = lane.strays.pop(said.sequence, None)
        if before is None:
            return
        self._judge_bytes(record, said, digest_of(before))
        if not lane.strays:
            self._sequences.note(
                f"{record.topic}/{record.partition}: facts up to {said.sequence} stood behind a gap; the log was "
                f"restored, and they came once more, in order"
            )

    def _given_up(self, lane: LaneLog) -> Iterator[Said]:
        """What was kept back stands where it stands."""
        strays, lane.strays = lane.strays, {}
        before = None
        for record in strays.values():
            said = _own(record)
            assert said is not None
            place = lane.judge(said.sequence)
            if place is Place.NEXT and lane.last != before:
                late = f"{said.speaker}/{said.partition}/{lane.last}"
                self._broken(record, f"{late} appears for the first time after {said.sequence}")
            before = said.sequence
            yield from self._added(lane, record, said, place)

    def _judge_bytes(self, record: Record, said: Envelope, first: int) -> None:
        if digest_of(record) != first:
            self._broken(record, f"{said.id} is said again, but with other bytes than the first time")

    def _added(self, lane: LaneLog, record: Record, said: Envelope, place: Place) -> Sequence[Said]:
        """Add what was said for the first time; what it says, if it is a fact that can be read."""
        self._place(lane, record, said, place)
        if record.topic.endswith(DEAD_LETTERS):
            self.dead_letters.append(letter_of(record))
            return ()
        self._judge_key(lane, record, said)
        fact = self._decoded(record, said)
        return (fact,) if fact is not None else ()

    def _place(self, lane: LaneLog, record: Record, said: Envelope, place: Place) -> None:
        """Add it to its lane."""
        self._sequences.checked += 1
        if place is Place.GAP:
            gap = said.sequence - lane.last - 1
            self._broken(record, f"{said.id} follows {lane.last}: {gap} facts of {said.speaker} are missing", gap)
        elif place is Place.LATE:
            self._broken(record, f"{said.id} appears for the first time after {lane.last}")
        else:
            self._judge_clock(lane, record, said)
        if place is not Place.LATE:
            lane.latest = said.heard
        lane.add(
            said.sequence,
            record.offset,
            digest_of(record),
            self.keys.number(record.key) if record.key is not None else -1,
            -1,
            self._cause(said.cause),
            said.heard,
        )

    def _judge_clock(self, lane: LaneLog, record: Record, said: Envelope) -> None:
        for who, known in lane.latest.items():
            if said.heard.get(who, 0) < known and not self._is_set_back(lane, who):
                self._broken(
                    record,
                    f"{said.id} claims to know {who} up to {said.heard.get(who, 0)}, the fact before it knew {known}",
                )

    def _is_set_back(self, lane: LaneLog, who: str) -> bool:
        """Somebody has told the lane, after its last fact, to go on in a topic of requests that was made again."""
        speaker = lane.speaker.removesuffix(DEAD_LETTERS)
        decided = self.decided(speaker, who, lane.partition)
        # Which dead letter was the last one then, nobody has written down.
        return lane.last in decided if speaker == lane.speaker else bool(decided)

    def _judge_key(self, lane: LaneLog, record: Record, said: Envelope) -> None:
        if record.key is None:
            self._broken(record, f"{said.id} has no key")
            return
        number = self.keys.number(record.key)
        home = self._homes.get(number)
        if home is None:
            home = self._homes[number] = self._partition_of(record.key)
        if home != record.partition:
            self._broken(record, f"{said.id} is about {text(record.key)!r}, which belongs in partition {home}")

    def _cause(self, cause: str) -> tuple[int, int]:
        """The cause as numbers: its topic, and its sequence, offset or, for a deadline, its key."""
        topic, _, rest = cause.partition("/")
        _, _, number = rest.partition("/")
        if topic.endswith(DUE):
            return self.topics.number(topic.encode()), self.keys.number(number.encode())
        if not number.isdecimal() or len(number) > len(str(HIGHEST)) or int(number) > HIGHEST:
            return NO_CAUSE, 0
        return self.topics.number(topic.encode()), int(number)

    def _decoded(self, record: Record, said: Envelope) -> Said | None:
        try:
            name, fields = self._decoder.decode(record.topic, record.value)
        except Undecodable as error:
            self._broken(record, f"{said.id} cannot be read: {error}")
            return None
        lane = self.lanes.get((record.topic, record.partition))
        at = lane.index(said.sequence) if lane is not None else None
        if lane is not None and at is not None:
            lane.names[at] = self.names.number(name.encode())
        return Said(
            record.topic,
            record.partition,
            said.sequence,
            record.offset,
            record.timestamp,
            name,
            text(record.key),
            said,
            fields,
        )

    # -- what is not a fact --------------------------------------------------------------------------------------------

    def _note_request(self, record: Record) -> None:
        requests = self.requests.setdefault((record.topic, record.partition), RequestLog())
        try:
            name = self.names.number(self._decoder.name_of(record.value).encode())
        except Undecodable:
            name = -1
        requests.offsets.append(record.offset)
        requests.timestamps.append(record.timestamp)
        requests.keys.append(self.keys.number(record.key) if record.key is not None else -1)
        requests.names.append(name)

    def _letter(self, record: Record) -> Envelope | None:
        """Who put it aside; None when it is no dead letter of the topic's owner. Nobody hears those, so that is only
        told."""
        try:
            said = _countable(envelope_of(record))
        except ValueError as error:
            self._strange(record, f"it is no dead letter of ours ({error})")
            return None
        if said.speaker != record.topic or said.partition != record.partition:
            self._strange(record, f"it says that it is {said.id}: it was written to the wrong topic or partition")
            return None
        return said

    def _strange(self, record: Record, what: str) -> None:
        self._sequences.note(
            f"{record.topic}/{record.partition} offset {record.offset}: {what}; nobody hears it, so it harms nothing. "
            f"Find its producer and take its rights away"
        )

    def _broken(self, record: Record, what: str, count: int = 1) -> None:
        where = f"offset {record.offset}" if record.offset >= 0 else "in the outbox"
        self._sequences.violation(f"{record.topic}/{record.partition} {where}: {what}", count)


def _record(partition: int, fact: ToSay) -> Record:
    """A fact of an outbox as a record that is not in the log yet."""
    return Record(fact.topic, partition, -1, fact.timestamp, fact.key, fact.value, fact.headers)


def _own(record: Record) -> Envelope | None:
    """The envelope of a fact or of a dead letter; None when it has none."""
    try:
        return envelope_of(record) if record.topic.endswith(DEAD_LETTERS) else envelope.read(record.headers)
    except ValueError:
        return None


def _countable(said: Envelope) -> Envelope:
    """The envelope, if its numbers are such as services count. Raises `ValueError`."""
    numbers = (said.sequence, *said.heard.values())
    if min(numbers) < 0 or max(numbers) > HIGHEST:
        raise ValueError("it has a number that nobody counts up to")
    return said


def digest_of(record: Record) -> int:
    """64 bits, equal for records that say the same."""
    said = _encode((record.timestamp, record.key, record.value, record.headers))
    return int.from_bytes(blake2b(said, digest_size=8).digest(), signed=True)
