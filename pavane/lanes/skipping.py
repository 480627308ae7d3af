"""`skip`: a halted lane goes on behind records of one topic that are foreign, gone, or lost for good.

Its position moves to the offset asked for, and its clock to just before the fact that lies there, so that this fact is
the next one. Both in one transaction with the note of who did it, and under the lane's epoch, which is raised: whoever
owns the lane notices, and takes it again from there (after two sessions, as from any other owner).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

import msgspec
from psycopg.types.json import Jsonb
from rich.text import Text

from pavane.dead_letters.events import Events
from pavane.lanes.reading import LogView
from pavane.lines import a_console
from pavane.operators import operations
from pavane.operators.agreeing import agreed
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Connection, Reach
from pavane.operators.words import count, cut, plain
from streams.kit import envelope
from streams.kit.errors import TopicReplaced
from streams.kit.events import from_milliseconds
from streams.kit.lane import REQUESTS
from streams.kit.log import Extent, Record, ToSay

DONE, NOT_AGREED = 0, 1
MOST_SHOWN = 20
LOOK_AHEAD_RECORDS = 10_000
SKIP = "skip"

_facts = msgspec.msgpack.Decoder(list[ToSay])


class Held(NamedTuple):
    """A lane as its database has it now."""

    epoch: int
    positions: Mapping[str, int]
    clock: Mapping[str, int]
    halted: str | None


class Plan(NamedTuple):
    """What a skip would do: hear offset `to` next, as if everything up to `known` had been heard.

    `lost`: how many events this service will never have heard, at most. `shown`: the first records between. `beyond`:
    it has heard further than the log goes now, so nobody knows which of these were heard. `follows`: where the fact
    stands that comes next for it, though it is behind `to`.
    """

    held: Held
    position: int
    to: int
    before: int
    known: int
    lost: int
    shown: list[Record]
    next: Record | None
    beyond: bool
    follows: int | None


class Skip:
    """One wish to skip. Raises `NotAsked` whenever it makes no sense; then nothing was changed."""

    def __init__(self, reach: Reach, service: str, partition: int, topic: str, to: str) -> None:
        self._reach = reach
        self._service = service
        self._partition = partition
        self._topic = topic
        self._to = to
        self._events = Events(reach.language, reach.registry)

    async def carry_out(self, who: str, why: str, *, asks: bool, dry_run: bool) -> int:
        """Show what would be lost; then do it, if somebody agrees."""
        self._reach.services([self._service])
        topics = self._reach.find(self._service).topics
        if self._topic not in topics:
            raise NotAsked(f"{self._service} does not hear {self._topic!r}, but {', '.join(topics)}")
        async with self._reach.database(self._service) as connection:
            plan = await self._plan(await self._held(connection))
            console = a_console()
            for line in [line async for line in self._told(plan)]:
                console.print(Text(line), soft_wrap=True)
            if dry_run:
                console.print("Nothing was changed.")
                return DONE
            if asks and not await agreed("Go on behind them?"):
                console.print("Nothing was changed.")
                return NOT_AGREED
            await self._do(connection, plan, operations.somebody(who), why)
            console.print("Done. Who owns the lane takes it again within a minute, and so does whoever owns it next.")
        return DONE

    # -- looking -----------------------------------------------------------------------------------------------------

    async def _held(self, connection: Connection) -> Held:
        cursor = await connection.execute(
            "SELECT epoch, positions, clock, halted FROM lanes WHERE partition = %s", (self._partition,)
        )
        row = await cursor.fetchone()
        lane = f"lane {self._partition} of {self._service}"
        if row is None:
            raise NotAsked(f"{lane} was never taken: there is nothing to skip")
        held = Held(*row)
        if held.halted is None:
            raise NotAsked(f"{lane} is not halted: it would lose what it only has to hear. See 'pavane lanes list'")
        return held

    async def _plan(self, held: Held) -> Plan:
        # Asked first: what the log has acknowledged by now, the log must hold when it is looked at afterwards.
        said = await self._said_by_speaker()
        position, before = held.positions.get(self._topic, 0), held.clock.get(self._topic, 0)
        extent, to, shown, following, follows = await asyncio.to_thread(self._look, held, position, before)
        beyond = position > extent.end or self._is_replaced(held)
        if extent.start <= position <= extent.end and to < position and not self._is_replaced(held):
            raise NotAsked(f"--to {to}: everything below offset {position} was heard; a lane never goes back")
        if self._topic.endswith(REQUESTS):
            # Offsets are their sequences: those of a log that was lost come again, for other requests.
            known = to
            lost = max(0, to - (extent.start if beyond else position))
        else:
            known = max(before, self._known(following, said))
            lost = known - before
        return Plan(held, position, to, before, known, lost, shown, following, beyond, follows)

    def _look(
        self, held: Held, position: int, before: int
    ) -> tuple[Extent, int, list[Record], Record | None, int | None]:
        with LogView.at(self._reach.kafka) as log:
            where = (self._topic, self._partition)
            extent = log.extents([where]).get(where)
            if extent is None:
                raise NotAsked(f"Kafka has no {self._topic}/{self._partition}")
            to = self._offset(extent)
            from_start = position > extent.end or self._is_replaced(held)
            first = extent.start if from_start else max(position, extent.start)
            shown = log.records(*where, first, min(to, extent.end), MOST_SHOWN)
            following = log.records(*where, to, extent.end, LOOK_AHEAD_RECORDS)
        follows = next((record.offset for record in following if _sequence(record) == before + 1), None)
        return extent, to, shown, following[0] if following else None, follows

    def _is_replaced(self, held: Held) -> bool:
        """The topic is another one than the one that the lane has heard."""
        why = held.halted or ""
        return why.startswith(f"{self._topic}/{self._partition}:") and TopicReplaced.MARK in why

    def _offset(self, extent: Extent) -> int:
        named = {"start": extent.start, "end": extent.end}
        if self._to not in named and not (self._to.isascii() and self._to.isdecimal()):
            raise NotAsked(f"--to {self._to!r}: an offset, or 'start' or 'end'")
        to = named[self._to] if self._to in named else int(self._to)
        if not extent.start <= to <= extent.end:
            raise NotAsked(f"--to {to}: {self._topic}/{self._partition} has offsets {extent.start} to {extent.end}")
        return to

    def _known(self, following: Record | None, said: int) -> int:
        """What counts as heard: all before the fact that lies there; all that was said, when none does."""
        if following is None:
            return said
        # Foreign as well: the lane halts again there, and nothing more is given up than was asked.
        return max(0, _sequence(following) - 1)

    async def _said_by_speaker(self) -> int:
        """The last fact of the topic that its speaker knows to be in the log; 0 when nobody can be asked."""
        if self._topic not in self._reach.databases:
            return 0
        async with self._reach.database(self._topic, reading=True) as connection:
            cursor = await connection.execute(
                "SELECT coalesce((clock ->> %s)::bigint, 0), array(SELECT facts FROM outbox o WHERE o.partition = "
                "l.partition AND o.number > l.acknowledged) FROM lanes l WHERE partition = %s",
                (self._topic, self._partition),
            )
            row = await cursor.fetchone()
        if row is None:
            return 0
        unsaid = sum(fact.topic == self._topic for facts in row[1] for fact in _facts.decode(facts))
        return int(row[0]) - unsaid

    # -- telling -----------------------------------------------------------------------------------------------------

    async def _told(self, plan: Plan) -> AsyncIterator[str]:
        yield f"{self._service}, lane {self._partition} is halted: {plain(plan.held.halted or '')}"
        yield ""
        where = f"{self._topic}/{self._partition}"
        yield f"It would hear {where} from offset {plan.to} on, instead of from {plan.position}."
        for record in plan.shown:
            yield f"  {await self._line(record, plan)}"
        if len(plan.shown) == MOST_SHOWN:
            yield f"  and up to {plan.to - 1 - plan.shown[-1].offset:,} more"
        thing = "request" if self._topic.endswith(REQUESTS) else "fact"
        is_known = plan.next is not None or self._topic in self._reach.databases
        if thing == "fact" and not plan.lost and is_known:
            yield f"It misses no fact of {self._topic}."
            if plan.next is not None:
                yield _next(plan)
            return
        yield f"It will never have heard {count(plan.lost, thing)} of {self._topic}, at most."
        if plan.beyond and plan.lost and thing == "request":
            yield "Those that came after the log was lost it hears with '--to start', and again any that it has heard."
        if thing == "fact" and plan.follows is not None:
            yield f"What it misses stands further on: with '--to {plan.follows}' it misses none of it."
        yield _next(plan)
        yield "What it did not hear it does not answer: run 'pavane audit' afterwards, it names the orders concerned."

    async def _line(self, record: Record, plan: Plan) -> str:
        name = await self._events.name(record)
        about = cut((record.key or b"").decode(errors="replace"), 60) or "(no key)"
        standing = _standing(record, plan.before)
        if plan.beyond and record.topic.endswith(REQUESTS):
            standing = f"written at {from_milliseconds(record.timestamp):%Y-%m-%d %H:%M:%S} UTC, nobody knows if heard"
        return f"offset {record.offset}: {plain(name)} about {about}, {standing}"

    # -- doing -------------------------------------------------------------------------------------------------------

    async def _do(self, connection: Connection, plan: Plan, who: str, why: str) -> None:
        subject = f"offset {plan.position} to {plan.to}; {self._topic} {plan.before} to {plan.known}"
        # What the service has said up to now answers what was there before (`Store.decided`).
        said = plan.held.clock.get(self._service, 0)
        at = [f"{self._topic}/{self._partition}/{plan.to}", f"{self._service}/{self._partition}/{said}"]
        async with connection.transaction():
            number = await operations.begin(connection, who, SKIP, at, subject, why)
            cursor = await connection.execute(
                "UPDATE lanes SET epoch = epoch + 1, positions = positions || %s, clock = clock || %s, halted = NULL "
                "WHERE partition = %s AND epoch = %s AND positions = %s AND clock = %s",
                (
                    Jsonb({self._topic: plan.to}), Jsonb({self._topic: plan.known}), self._partition,
                    plan.held.epoch, Jsonb(plan.held.positions), Jsonb(plan.held.clock),
                ),
            )  # fmt: skip
            if cursor.rowcount != 1:
                raise NotAsked("the lane has moved or has another owner since it was looked at: look again")
            await operations.end(connection, number, f"skipped: {plan.lost} events at most are lost")


def _standing(record: Record, before: int) -> str:
    """What the lane knows of a record."""
    if record.topic.endswith(REQUESTS):
        return "not heard"
    said = envelope.of_own(record.topic, record.partition, record.headers)
    if said is None:
        return "not of ours"
    return f"{said.id}, {'known' if said.sequence <= before else 'not heard'}"


def _sequence(record: Record) -> int:
    """Of a fact; 0 of what is none."""
    said = envelope.of_own(record.topic, record.partition, record.headers)
    return said.sequence if said is not None else 0


def _next(plan: Plan) -> str:
    """What it hears next."""
    if plan.next is None:
        return "Nothing is in the log from there on: what is missing, if anything, shows with the next record."
    return f"Next it hears offset {plan.next.offset}: {_standing(plan.next, plan.known)}."
