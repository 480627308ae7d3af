"""The real worker, moved by hand: one `Worker` a dancer, on a log and a store in memory, one move a step.

What each step reads is chosen by the move: the records up to the fact that is to be heard, a request, a deadline, the
head of what is parked. What the world says is too.
"""

import struct
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from io import BytesIO
from itertools import product, takewhile
from typing import Any, cast

import fastavro
import msgspec

from choreography.dancers import NOON
from choreography.lanes import Move
from choreography.scenarios import Scenario
from streams.kit.codec import Codec
from streams.kit.errors import RecordsAstray
from streams.kit.events import Answer, Effect, State, Unanswered, milliseconds
from streams.kit.lane import Draft, Holding, Lane
from streams.kit.language import Language
from streams.kit.log import Extent, Record, Said, ToSay
from streams.kit.parking import Parked
from streams.kit.rows import Changes, Wanted
from streams.kit.service import Service
from streams.kit.settings import WorkerSettings
from streams.kit.store import Move as Batched
from streams.kit.worker import Worker

SETTINGS = WorkerSettings(
    kafka="simulated", registry="http://simulated", database="postgresql://simulated", due_poll_seconds=0.001
)  # fmt: skip


class Died(Exception):
    """The worker's process ended."""


class Ids:
    """A registry that knows every released schema."""

    def __init__(self) -> None:
        self._texts = [schema.text for schema in Language.load()]

    async def id_of(self, subject: str, schema: str) -> int:
        return self._texts.index(schema)

    async def schema_of(self, schema_id: int) -> str | None:
        return self._texts[schema_id]


class Desk:
    """One dancer: its database, its view of the log, and its present worker. It is its own log, store and world."""

    partition_count = 1

    def __init__(self, scenario: Scenario, number: int, logs: dict[str, list[Record]], codec: Codec) -> None:
        self.service: Service = scenario.dancers.services[number]
        self.logs, self.codec = logs, codec
        self._scenario, self._number = scenario, number
        self.holding = Holding(0, {}, {}, 0, 0)
        self.parked: dict[int, Parked] = {}
        self.rows: dict[tuple[type[State], str], State] = {}
        self.world = 0
        self.how = ""
        self._given: list[Record] = []
        self._timed = ""
        self._steps = self._starts = 0
        self._unsaid: dict[int, list[ToSay]] = {}
        for row in scenario.dancers.values[scenario.shared]:
            if type(row) in self.service.states:
                self.rows[type(row), row.row_key] = row
        self.restart()

    def restart(self) -> None:
        """The process dies; another one takes the lane over."""
        self._starts += 1
        world = cast("Any", self) if self.service.world else None
        me = cast("Any", self)
        self.worker = Worker(self.service, me, me, self.codec, world, SETTINGS, lambda key: 0, self._now)

    @property
    def waiting(self) -> list[Parked]:
        """What is parked and holds its order, oldest first; a refused request holds nobody."""
        return [self.parked[number] for number in sorted(self.parked) if self.parked[number].holds]

    def _now(self) -> datetime:
        return NOON + timedelta(seconds=self._steps)

    # -- moves ---------------------------------------------------------------------------------------------------------

    async def make(self, move: Move, name: str, topic: str) -> None:
        """Make the worker do what the move says."""
        self._steps += 1
        self.how = move.what
        self._given = [] if move.what in ("due", "retry") else self.least(topic, name)
        self._timed = move.what
        try:
            await self.worker.step()
            await self.worker.step()
        except Died:
            assert move.what == "lose"
            self.restart()
        else:
            assert move.what != "lose", "the world was not asked, so nothing was lost"
            await self.worker.outboxes[0].drained(1.0)
        self._given, self._timed = [], ""

    def up_to(self, topic: str, name: str) -> list[Record]:
        """The records of the topic that are not heard yet, up to the first of that name."""
        records = self.logs[topic][self.holding.positions.get(topic, 0) :]
        for number, record in enumerate(records, 1):
            if self.codec.name_of(record.value) == name:
                return records[:number]
        return []

    def least(self, topic: str, name: str) -> list[Record]:
        """The fewest records with which a real lane, as the database has it now, would hear that fact; empty if none.

        Its causes may be facts that the service does not react to: those are read before it.
        """
        wanted = self.up_to(topic, name)
        others = [other for other in self.service.topics if other != topic and not other.endswith(".requests")]
        before = [self._ignored(other) for other in others]
        for lengths in sorted(product(*(range(len(each) + 1) for each in before)), key=sum):
            records = [record for each, length in zip(before, lengths, strict=True) for record in each[:length]]
            lane = Lane(self.service.name, 0, self.service.topics, self.holding)
            for record in (*records, *wanted):
                lane.push(record)
            if wanted and wanted[-1] in [delivery.record for delivery in lane.order(100).deliveries]:
                return [*records, *wanted]
        return []

    def _ignored(self, topic: str) -> list[Record]:
        """The next records of the topic that the service does not react to."""
        records = self.logs[topic][self.holding.positions.get(topic, 0) :]
        views = {(view.topic, view.__name__) for view in self.service.views}
        return list(takewhile(lambda record: (topic, self.codec.name_of(record.value)) not in views, records))

    # -- the log -------------------------------------------------------------------------------------------------------

    def assigned(self) -> Mapping[int, int]:
        return {0: self._starts}

    async def extents(self, partition: int, *also: str) -> Mapping[str, Extent]:
        return {topic: Extent(0, len(self.logs[topic])) for topic in self.service.topics}

    def astray(self) -> Mapping[int, RecordsAstray]:
        return {}

    async def last_said(self, topic: str, partition: int, known: int) -> Said | None:
        return Said(known, known)

    async def correlation(self, topic: str, partition: int, offset: int) -> str | None:
        raise NotImplementedError("no topic is made again here")

    def seek(self, partition: int, positions: Mapping[str, int]) -> None:
        return

    async def read(self, wanted: Collection[tuple[str, int]], timeout_seconds: float) -> Iterable[Record]:
        given, self._given = self._given, []
        return given

    async def report(self, positions: Mapping[tuple[str, int], int]) -> Mapping[tuple[str, int], int]:
        return {}

    async def append(self, partition: int, facts: Sequence[ToSay]) -> None:
        await self.codec.learn(fact.value for fact in facts)
        for fact in facts:
            log = self.logs.setdefault(fact.topic, [])
            log.append(Record(fact.topic, 0, len(log), fact.timestamp, fact.key, fact.value, fact.headers))

    # -- the world -----------------------------------------------------------------------------------------------------

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        [effect] = effects
        if self.how == "lose":
            raise Died
        if self.how in ("park", "late"):
            return [Unanswered(reason="for now")]
        self.world, answer = self._scenario.dancers.ask(self._number, effect, self.world)
        return [answer]

    # -- the store -----------------------------------------------------------------------------------------------------

    async def take_over(self, partition: int, partition_count: int) -> tuple[Holding, list[tuple[int, list[ToSay]]]]:
        held = Counter(parked.key for parked in self.parked.values() if parked.holds)
        self.holding = self.holding._replace(
            epoch=self.holding.epoch + 1, held=held, parked=max(self.parked, default=0)
        )
        return self.holding, []

    async def load(self, wanted: Wanted) -> dict[type[State], list[State]]:
        return {
            state: [self.rows[state, key] for key in keys if (state, key) in self.rows]
            for state, keys in wanted.items()
        }

    async def due(
        self, state: type[State], partitions: Collection[int], now: datetime, limit: int, without: Collection[str] = ()
    ) -> list[State]:
        if self._timed != "due":
            return []
        self._timed = ""
        return [row for row in self.rows.values() if isinstance(row, state) and getattr(row, "due_at", None)]

    async def to_retry(self, partitions: Collection[int], now: datetime, limit: int) -> list[tuple[int, Parked]]:
        if self._timed != "retry":
            return []
        self._timed = ""
        calling_off = (each for each in self.waiting[1:] if each.retry_at is not None)
        return [(0, next(calling_off, self.waiting[0]))]

    @asynccontextmanager
    async def transaction(self, drafts: Sequence[Draft]) -> AsyncIterator["Desk"]:
        yield self

    async def commit(self, moves: Sequence[Batched], changes: Sequence[Changes]) -> None:
        [(draft, _)] = moves
        assert draft.lane.epoch == self.holding.epoch
        row = self.holding.row + bool(draft.said)
        self.holding = self.holding._replace(positions=draft.positions, clock=draft.clock, row=row, acknowledged=row)
        for each in (*draft.parking.added, *draft.parking.tried):
            self.parked[each.number] = each
        for each in draft.parking.released:
            del self.parked[each.number]
        self.holding = self.holding._replace(held=draft.parking.held, parked=draft.parking.last)
        for change in changes:
            for document in msgspec.json.decode(msgspec.json.encode(change.rows)):
                self._write(change.state, document)

    def _write(self, state: type[State], document: dict[str, Any]) -> None:
        place = (state, document[state.key])
        if state.shared and (known := self.rows.get(place)) is not None:
            for name, value in document.items():
                if type(value) is int:
                    document[name] = getattr(known, name) + value
        self.rows[place] = msgspec.convert(document, state)

    async def acknowledge(self, rows: Mapping[int, tuple[int, int]]) -> None:
        return

    async def given_up(self, partition: int) -> int:
        return 0

    async def decided(self, topic: str, service: str, partition: int) -> int:
        return 0

    async def forget_said(self, rows: Mapping[int, int], before: datetime) -> int:
        return 0


def said(logs: Mapping[str, Sequence[Record]], codec: Codec, names: Iterable[str]) -> Counter[str]:
    """The names of all facts in the log."""
    return Counter(codec.name_of(record.value) for name in names for record in logs[name])


async def requested(codec: Codec, logs: dict[str, list[Record]], event: Any) -> None:
    """Append a request to its topic, as a producer outside does."""
    log = logs[event.topic]
    schema = Language.load().latest(event.topic, type(event).__name__)
    buffer = BytesIO()
    buffer.write(struct.pack(">bI", 0, await Ids().id_of(schema.subject, schema.text)))
    fields = {**msgspec.to_builtins(event, builtin_types=(datetime,)), "asked_by": "customer-1"}
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema.raw), fields)
    log.append(Record(event.topic, 0, len(log), milliseconds(NOON), event.order_id.encode(), buffer.getvalue(), ()))
    await codec.learn([buffer.getvalue()])


