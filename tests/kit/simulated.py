"""A world in which the real worker runs against a simulated log, database and group, in virtual time, from one seed.

What is simulated is what the worker stands on, by its own protocols (`Log`, `Store`, `World`); the worker, its lanes,
clocks, folds and outboxes are the real ones. Every operation takes a random time, so all interleavings of instances are
possible; time itself is virtual, so a run takes milliseconds and the same seed gives the same run.
"""

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from streams.kit import envelope
from streams.kit.errors import RecordsAstray, StaleEpoch, WorldUnavailable
from streams.kit.events import Answer, Effect, State, Unanswered, Unasked, Unreached
from streams.kit.lane import Delivery, Draft, Holding
from streams.kit.log import Extent, Record, Said, ToSay
from streams.kit.parking import Parked
from streams.kit.rows import Changes, Wanted
from streams.kit.store import DatabaseAway, Found, Move

PARTITIONS = 2
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is ready, its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self._virtual = 0.0
        really = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None) -> Any:
            if timeout is None:
                raise AssertionError("everybody waits for an event that nobody will cause")
            self._virtual += max(0.0, timeout)
            return really(0)

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._virtual


def now() -> datetime:
    """Virtual time."""
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


class Cluster:
    """The broker: what was appended stays, in the order of its arrival."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[str, int], list[Record]] = {}
        self.late: set[asyncio.Task[None]] = set()

    def records(self, topic: str, partition: int) -> list[Record]:
        return self.partitions.setdefault((topic, partition), [])

    def append(self, partition: int, fact: ToSay) -> None:
        records = self.records(fact.topic, partition)
        record = Record(fact.topic, partition, len(records), fact.timestamp, fact.key, fact.value, fact.headers)
        records.append(record)


@dataclass
class Host:
    """Where one instance runs: it can be frozen, and everything it does takes a while."""

    rng: random.Random
    faults: "Faults"
    thawed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.thawed.set()

    async def takes(self, seconds: float = 0.01) -> None:
        """A random time, and as long as the host is frozen."""
        await asyncio.sleep(self.rng.expovariate(1 / seconds))
        await self.thawed.wait()


@dataclass
class Faults:
    """How often what goes wrong, as a share of operations; `off` ends them all. `happened` counts them."""

    append_lost: float = 0.0
    commit_unknown: float = 0.0
    commit_failed: float = 0.0
    world_away: float = 0.0
    unanswered: float = 0.0
    happened: dict[str, int] = field(default_factory=dict)
    off: bool = False

    def strikes(self, rng: random.Random, what: str) -> bool:
        if self.off or rng.random() >= getattr(self, what):
            return False
        self.note(what)
        return True

    def note(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1


class SimulatedLog:
    """One instance's client of the cluster."""

    partition_count = PARTITIONS

    def __init__(self, cluster: Cluster, host: Host, topics: Sequence[str]) -> None:
        self._cluster, self._host, self._topics = cluster, host, topics
        self._next: dict[tuple[str, int], int] = {}
        self.given: dict[int, int] = {}

    def assigned(self) -> Mapping[int, int]:
        return dict(self.given)

    async def extents(self, partition: int, *also: str) -> Mapping[str, Extent]:
        await self._host.takes()
        topics = (*self._topics, *also)
        return {topic: Extent(0, len(self._cluster.records(topic, partition))) for topic in topics}

    def astray(self) -> Mapping[int, RecordsAstray]:
        return {}

    async def last_said(self, topic: str, partition: int, known: int) -> Said | None:
        await self._host.takes()
        said = [envelope.read(record.headers).sequence for record in self._cluster.records(topic, partition)]
        return Said(max(said, default=0), max((sequence for sequence in said if sequence <= known), default=0))

    async def correlation(self, topic: str, partition: int, offset: int) -> str | None:
        raise NotImplementedError("no topic is made again here")

    def seek(self, partition: int, positions: Mapping[str, int]) -> None:
        self._next.update({(topic, partition): position for topic, position in positions.items()})

    async def read(self, wanted: Collection[tuple[str, int]], timeout_seconds: float) -> Iterable[Record]:
        await self._host.takes()
        found: list[Record] = []
        for each in wanted:
            if each in self._next and self._host.rng.random() < 0.7:
                records = self._cluster.records(*each)[self._next[each] :][: self._host.rng.randint(1, 5)]
                self._next[each] += len(records)
                found += records
        if not found:
            await asyncio.sleep(min(timeout_seconds, 0.05))
        return found

    async def report(self, positions: Mapping[tuple[str, int], int]) -> Mapping[tuple[str, int], int]:
        return {}

    async def append(self, partition: int, facts: Sequence[ToSay]) -> None:
        """Appends in order over a network that goes on when the instance is gone, or loses the rest."""
        rng = self._host.rng
        lost = self._host.faults.strikes(rng, "append_lost")
        reach = rng.randint(0, len(facts)) if lost else len(facts)
        late = lost and rng.random() < 0.5

        async def deliver(some: Sequence[ToSay], pause: float) -> None:
            for fact in some:
                await asyncio.sleep(rng.expovariate(1 / pause))
                self._cluster.append(partition, fact)

        task = asyncio.create_task(deliver(facts[:reach], 0.002))
        self._cluster.late.add(task)
        await asyncio.shield(task)
        await self._host.takes()
        if lost:
            if late:
                # What this producer still had in flight arrives after all, when others may have said it again.
                self._cluster.late.add(asyncio.create_task(deliver(facts[reach:], 1.0)))
            raise OSError("the connection was lost; nobody knows what arrived")


@dataclass
class Lanes:
    """One lane in a simulated database, and what the check wants to know of it: what was heard, in which order."""

    epoch: int = 0
    positions: Mapping[str, int] = field(default_factory=dict)
    clock: Mapping[str, int] = field(default_factory=dict)
    row: int = 0
    acknowledged: int = 0
    outbox: dict[int, bytes] = field(default_factory=dict)
    parked: dict[int, Parked] = field(default_factory=dict)
    applied: list[Delivery] = field(default_factory=list)
    decided: dict[str, list[str]] = field(default_factory=dict)
    past: frozenset[str] = frozenset()


class Database:
    """One service's database: what is committed. Checks know the causes of every fact from here."""

    def __init__(self, causes: dict[str, frozenset[str]]) -> None:
        self.lanes = [Lanes() for _ in range(PARTITIONS)]
        self.rows: dict[tuple[type[State], str], bytes] = {}
        self.causes = causes

    def commit(self, moves: Sequence[Move], changes: Sequence[Changes]) -> None:
        ours = {move.draft.lane.partition: move.draft.lane.epoch for move in moves}
        stale = frozenset(partition for partition, epoch in ours.items() if self.lanes[partition].epoch != epoch)
        if stale:
            raise StaleEpoch(stale)
        for draft, acknowledged in moves:
            lane = self.lanes[draft.lane.partition]
            lane.positions, lane.clock, lane.acknowledged = dict(draft.positions), dict(draft.clock), acknowledged
            if draft.said:
                lane.row = draft.lane.row + 1
                lane.outbox[lane.row] = msgspec.msgpack.encode(draft.said)
            self._remember(lane, draft)
            self._park(lane, draft)
        for change in changes:
            for row in change.rows:
                self.rows[change.state, row.row_key] = msgspec.json.encode(row)

    def _remember(self, lane: Lanes, draft: Draft) -> None:
        """What was heard, and everything that each fact said now depends on: all that was heard and said before it."""
        aside = [dict(fact.headers)["dead_letter_message"] for fact in draft.said if fact.topic != draft.lane.me]
        assert not aside, f"nothing in the dance is undecidable, but {aside}"
        said = iter([(dict(fact.headers)["cause"].decode(), envelope.read(fact.headers).id) for fact in draft.said])
        waiting = next(said, None)
        for delivery in draft.deliveries:
            own_id = delivery.envelope.id
            if delivery.is_new:
                lane.applied.append(delivery)
                lane.past |= self.causes.get(own_id, frozenset()) | {own_id}
            while waiting is not None and waiting[0] == own_id:
                self.causes[waiting[1]] = lane.past
                lane.past |= {waiting[1]}
                waiting = next(said, None)
        assert waiting is None, "a fact was said whose cause was not heard in its batch"

    def _park(self, lane: Lanes, draft: Draft) -> None:
        """Parked records in and out; and in which order the records of each key were decided at last."""
        added = {parked.envelope.id for parked in draft.parking.added}
        released = {parked.envelope.id for parked in draft.parking.released}
        for delivery in draft.deliveries:
            own_id, key = delivery.envelope.id, (delivery.record.key or b"").decode()
            if (delivery.is_new and own_id not in added) or own_id in released:
                lane.decided.setdefault(key, []).append(own_id)
        for parked in (*draft.parking.added, *draft.parking.tried):
            lane.parked[parked.number] = parked
        for parked in draft.parking.released:
            assert lane.parked.pop(parked.number, None), f"{parked.envelope.id} was decided a second time"
            followers = [n for n, other in lane.parked.items() if other.holds and other.key == parked.key]
            if parked.holds and followers:
                head = lane.parked[min(followers)]
                lane.parked[head.number] = replace(head, retry_at=EPOCH)


class SimulatedStore:
    """One instance's connection to its service's database."""

    def __init__(self, database: Database, host: Host) -> None:
        self._database, self._host = database, host

    async def lane_count(self) -> int | None:
        return PARTITIONS

    async def take_over(self, partition: int, partition_count: int) -> tuple[Holding, list[tuple[int, list[ToSay]]]]:
        await self._host.takes()
        if self._host.faults.strikes(self._host.rng, "commit_failed"):
            raise DatabaseAway("simulated")
        lane = self._database.lanes[partition]
        lane.epoch += 1
        held = Counter(parked.key for parked in lane.parked.values() if parked.holds)
        last = max(lane.parked, default=0)
        holding = Holding(lane.epoch, lane.positions, lane.clock, lane.row, lane.acknowledged, held, last)
        numbers = [number for number in sorted(lane.outbox) if number > lane.acknowledged]
        unsaid = [(number, msgspec.msgpack.decode(lane.outbox[number], type=list[ToSay])) for number in numbers]
        await self._host.takes()
        return holding, unsaid

    async def load(self, wanted: Wanted) -> Found:
        await self._host.takes()
        return {
            state: [
                msgspec.json.decode(self._database.rows[state, key], type=state)
                for key in keys
                if (state, key) in self._database.rows
            ]
            for state, keys in wanted.items()
        }

    async def to_retry(self, partitions: Collection[int], now: datetime, limit: int) -> list[tuple[int, Parked]]:
        await self._host.takes()
        return [
            (partition, parked)
            for partition in partitions
            for parked in self._database.lanes[partition].parked.values()
            if parked.retry_at is not None and parked.retry_at <= now
        ][:limit]

    async def due(
        self, state: type[State], partitions: Collection[int], now: datetime, limit: int, without: Collection[str] = ()
    ) -> list[State]:
        return []

    @asynccontextmanager
    async def transaction(self, drafts: Sequence[Draft]) -> AsyncIterator["SimulatedStore"]:
        yield self

    async def commit(self, moves: Sequence[Move], changes: Sequence[Changes]) -> None:
        rng, faults = self._host.rng, self._host.faults
        await self._host.takes()
        if faults.strikes(rng, "commit_failed"):
            raise DatabaseAway("simulated: before the commit")
        self._database.commit(moves, changes)
        await self._host.takes()
        if faults.strikes(rng, "commit_unknown"):
            raise DatabaseAway("simulated: the commit's answer was lost")

    async def acknowledge(self, rows: Mapping[int, tuple[int, int]]) -> None:
        await self._host.takes()
        for partition, (epoch, number) in rows.items():
            lane = self._database.lanes[partition]
            if lane.epoch == epoch:
                lane.acknowledged = max(lane.acknowledged, number)

    async def note_halted(self, partition: int, epoch: int | None, reason: str) -> None:
        await self._host.takes()

    async def epochs(self, partitions: Collection[int]) -> Mapping[int, int]:
        await self._host.takes()
        return {partition: self._database.lanes[partition].epoch for partition in partitions}

    async def given_up(self, partition: int) -> int:
        return 0

    async def decided(self, topic: str, service: str, partition: int) -> int:
        return 0

    async def forget_said(self, rows: Mapping[int, int], before: datetime) -> int:
        for partition, number in rows.items():
            outbox = self._database.lanes[partition].outbox
            for each in [each for each in outbox if each <= number]:
                del outbox[each]
        return 0

    async def close(self) -> None:
        return


class SimulatedWorld:
    """The outside world: does every effect once by its key, and is away now and then, before or after doing it."""

    def __init__(self, done: dict[str, int], host: Host, answer: Any) -> None:
        self._done, self._host, self._answer = done, host, answer

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        await self._host.takes()
        if self._host.faults.strikes(self._host.rng, "world_away"):
            raise WorldUnavailable("simulated: away")
        if self._host.faults.strikes(self._host.rng, "unanswered"):
            kinds = (Unanswered, Unreached, Unasked)
            return [self._host.rng.choice(kinds)(reason="simulated: not for now") for _ in effects]
        numbers = [self._done.setdefault(effect.key, len(self._done) + 1) for effect in effects]
        await self._host.takes()
        if self._host.faults.strikes(self._host.rng, "world_away"):
            raise WorldUnavailable("simulated: it was done, but the answer was lost")
        return [self._answer(number=number) for number in numbers]
