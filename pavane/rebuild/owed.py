"""What a lane had heard and not handled when its database was lost, found in the log alone.

A change of state always says a fact, and a fact names its cause. So a record that the lane's clock counts as heard,
and that is no fact's cause, either called for nothing, or it was parked: its effect was not answered, its decision
failed, or it waited behind another one of its key. Which one it was is decided once more, on the rows as they are now:
decisions are pure, and what called for nothing still does (`pavane choreography` checks that no event is ignored which
a later state would not ignore). Later records of a parked record's key were parked too: where one was handled, none
before it was, but for requests that were refused: those held nobody.

What an operator discarded has a dead letter that says so, and is owed nothing.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from pavane.audit.dead_letters import envelope_of, letter_of
from pavane.rebuild import beside, folding
from pavane.rebuild.rebuilding import Rebuild
from streams.kit import envelope
from streams.kit.envelope import Envelope
from streams.kit.errors import Refused, Undecidable, Undecodable
from streams.kit.lane import DEAD_LETTERS, REQUESTS, Delivery
from streams.kit.log import Record
from streams.kit.opening import Opened, Opener
from streams.kit.parking import AT_ONCE, BEHIND, DISCARDED, REBUILT, Parked
from streams.kit.service import Service

RECORDS = 5_000
REFUSALS = frozenset(each.__name__ for each in (Undecidable, Undecodable, Refused))
WHY = "it was heard and not handled when the database was lost"


class Owed(NamedTuple):
    """Where a lane is to go on, and what it had heard and not handled. `of_clock`: of which fresh lane that is true."""

    of_clock: Mapping[str, int]
    positions: Mapping[str, int]
    clock: Mapping[str, int]
    parked: Sequence[Parked]

    def told(self) -> str:
        """In words."""
        heard = ", ".join(f"{topic} from {position:,}" for topic, position in sorted(self.positions.items()))
        return f"made from the log; it hears {heard}; {len(self.parked):,} records are parked as before"


class Handled:
    """Which events are the cause of some fact: one bit each, by topic and the number in their ids. `heard`: the clock
    of the lane that said the facts; what it does not know is no cause."""

    def __init__(self, heard: Mapping[str, int]) -> None:
        self._heard = heard
        self._bits: dict[str, bytearray] = {}

    def add(self, event_id: str) -> None:
        topic, _, rest = event_id.partition("/")
        number = rest.rpartition("/")[2]
        # A deadline has no number: its row has it.
        if not number.isdecimal() or int(number) > self._heard.get(topic, 0):
            return
        bits, at = self._bits.setdefault(topic, bytearray()), int(number)
        if at >= len(bits) * 8:
            bits.extend(bytes(at // 8 + 1 - len(bits) + len(bits) // 2))
        bits[at >> 3] |= 1 << (at & 7)

    def has(self, topic: str, number: int) -> bool:
        bits = self._bits.get(topic, b"")
        return number < len(bits) * 8 and bool(bits[number >> 3] >> (number & 7) & 1)


async def owed_of(rebuild: Rebuild, connection: beside.Connection, lane: beside.Lane) -> Owed:
    """Read the log for one lane that is folded up to its end. Raises `EvidenceMissing`."""
    return await _Lane(rebuild, connection, lane).owed()


class _Lane:
    def __init__(self, rebuild: Rebuild, connection: beside.Connection, lane: beside.Lane) -> None:
        self._service: Service = rebuild.service
        self._rebuild = rebuild
        self._connection = connection
        self._fresh = lane
        self._partition = lane.partition
        self._clock = dict(lane.clock)
        self._handled = Handled(lane.clock)
        self._letters: dict[str, tuple[str, str]] = {}
        self._opener = Opener(rebuild.service, rebuild.codec, rebuild.partition_of)
        self._found: dict[tuple[str, bytes], list[Opened]] = {}

    async def owed(self) -> Owed:
        await asyncio.to_thread(self._read_causes)
        await asyncio.to_thread(self._read_letters)
        positions = {topic: await self._read_heard(topic) for topic in self._service.topics}
        return Owed(self._fresh.clock, positions, self._clock, self._parked())

    # -- what the service said -------------------------------------------------------------------------------------

    def _read_causes(self) -> None:
        me = self._service.name
        for record in self._records(me, self._fresh.positions.get(me, 0)):
            said = envelope.of_own(record.topic, record.partition, record.headers)
            if said is not None:
                self._handled.add(said.cause)

    def _read_letters(self) -> None:
        """Dead letters: why records were put aside, how many there are, and what was heard before the last one."""
        topic, said = self._service.name + DEAD_LETTERS, self._clock.get(self._service.name, 0)
        for record in self._records(topic, self._rebuild.end(topic, self._partition)):
            try:
                about = envelope_of(record)
            except ValueError:
                continue  # somebody else wrote it
            letter = letter_of(record)
            self._letters[letter.origin] = letter.reason, letter.message
            self._clock[topic] = max(self._clock.get(topic, 0), about.sequence)
            # Said behind a fact that the log never got, it does not count: that fact's cause is heard again.
            if about.heard.get(self._service.name, 0) <= said:
                for who, known in about.heard.items():
                    self._clock[who] = max(self._clock.get(who, 0), known)

    def _records(self, topic: str, end: int) -> Iterator[Record]:
        where = (topic, self._partition)
        return self._rebuild.log.records([topic], {where: end})

    # -- what the service had heard --------------------------------------------------------------------------------

    async def _read_heard(self, topic: str) -> int:
        """Look through what the clock says was heard; the offset of the first record beyond it."""
        end = self._rebuild.end(topic, self._partition)
        found = self._records(topic, end)
        while records := await asyncio.to_thread(lambda: list(islice(found, RECORDS))):
            heard: list[Delivery] = []
            for record in records:
                said = self._said(record)
                if said is not None and said.sequence > self._clock.get(topic, 0):
                    found.close()  # type: ignore[attr-defined]
                    await self._note(topic, heard)
                    return record.offset
                if said is not None:
                    heard.append(Delivery(record, said))
            await self._note(topic, heard)
        return end

    def _said(self, record: Record) -> Envelope | None:
        if record.topic.endswith(REQUESTS):
            return envelope.of_request(record.topic, record.partition, record.offset, record.headers)
        # What somebody else wrote somebody has skipped.
        return envelope.of_own(record.topic, record.partition, record.headers)

    async def _note(self, topic: str, heard: Sequence[Delivery]) -> None:
        """Note what of these is owed; a record that was handled shows that nothing before it of its key held it up."""
        candidates: dict[bytes, list[Delivery]] = {}
        for delivery in heard:
            key = delivery.record.key or b""
            number = delivery.record.offset if topic.endswith(REQUESTS) else delivery.envelope.sequence
            if self._handled.has(topic, number):
                candidates[key] = [each for each in candidates.get(key, ()) if self._is_refused(each.record)]
                if before := self._found.pop((topic, key), None):
                    self._found[topic, key] = [one for one in before if self._is_refused(one.delivery.record)]
            else:
                candidates.setdefault(key, []).append(delivery)
        unhandled = [delivery for each in candidates.values() for delivery in each]
        await self._rebuild.codec.learn(delivery.record.value for delivery in unhandled)
        opened = [self._opener.one(delivery, 0) for delivery in unhandled]
        rows = await self._rows(opened)
        for one in opened:
            if self._calls_for_something(one, rows):
                self._found.setdefault((topic, one.delivery.record.key or b""), []).append(one)

    def _is_refused(self, record: Record) -> bool:
        """A request that was refused waits alone, and holds nobody."""
        letter = self._letter_of(record)
        return record.topic.endswith(REQUESTS) and letter is not None and letter[0] in REFUSALS

    def _letter_of(self, record: Record) -> tuple[str, str] | None:
        """Why it was put aside, in a word and in words; None if it was not."""
        return self._letters.get(f"{record.topic}/{record.partition}/{record.offset}")

    async def _rows(self, opened: Sequence[Opened]) -> Mapping[tuple[object, str], object]:
        """The rows that the decisions about these events read."""
        wanted: dict[object, set[str]] = {}
        for one in opened:
            reaction = self._service.reactions.get(type(one.event)) if one.event is not None else None
            if reaction is not None:
                wanted.setdefault(reaction.state, set()).add(one.row)
                if reaction.reads is not None:
                    wanted.setdefault(reaction.reads.state, set()).update(reaction.reads.keys(one.event))
        found: dict[tuple[object, str], object] = {}
        for state, keys in wanted.items():
            for row in await folding.load(self._connection, state, keys):  # type: ignore[arg-type]
                found[state, row.row_key] = row
        return found

    def _calls_for_something(self, one: Opened, rows: Mapping[tuple[object, str], object]) -> bool:
        if one.problem is not None:
            return True
        reaction = self._service.reactions.get(type(one.event)) if one.event is not None else None
        if reaction is None or one.event is None:
            return False

        def row(state: type, key: str) -> object:
            return rows.get((state, key)) or state.new(key, self._partition)  # type: ignore[attr-defined]

        try:
            read = reaction.reads
            others = {key: row(read.state, key) for key in read.keys(one.event)} if read is not None else None
            return bool(self._service.decide(row(reaction.state, one.row), one.event, others))  # type: ignore[arg-type]
        except Exception:
            # A decision that raises put the record aside, or will: either way it is parked.
            return True

    # -- parked again ------------------------------------------------------------------------------------------------

    def _parked(self) -> list[Parked]:
        """What is owed, as it was parked: in causal order, of each key the first one to be tried at once."""
        everything = sorted((one for each in self._found.values() for one in each), key=_causally)
        heads: set[str] = set()
        parked = []
        # As high as if they were parked now: a number that was written down before the loss is of no other record.
        for number, one in enumerate(everything, sum(self._clock.values()) + 1):
            record = one.delivery.record
            letter = self._letter_of(record)
            if letter is not None and letter[0] == DISCARDED:
                continue
            holds = not self._is_refused(record)
            is_head = one.key not in heads
            reason, message = letter or ((REBUILT, WHY) if is_head else (BEHIND, WHY))
            if holds:
                heads.add(one.key)
            retry_at = AT_ONCE if is_head and letter is None else None
            parked.append(Parked(number, one.key, holds, record, one.delivery.envelope, reason, message, 1, retry_at))
        return parked


def _causally(one: Opened) -> int:
    """Grows along causes: whoever knew more came later."""
    said = one.delivery.envelope
    return said.sequence + sum(known for who, known in said.heard.items() if who != said.speaker)
