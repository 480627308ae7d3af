"""What today's code would decide about parked records: nothing is asked of the world, and nothing is written.

Rows are those of one moment. Records of one key are decided in order, each upon the rows that the one before it left,
as a redrive would have it; an effect ends that, since what follows depends on its answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple, cast

import msgspec
from psycopg import sql

from pavane.dead_letters import items
from pavane.dead_letters.events import Events
from pavane.dead_letters.items import Item
from pavane.operators.reach import Connection, Reach
from pavane.operators.words import cut, plain
from streams.kit.codec import Codec
from streams.kit.events import State, milliseconds
from streams.kit.fold import Fold, wanted
from streams.kit.kafka import partition_of
from streams.kit.lane import Delivery, Draft, Holding, Lane
from streams.kit.log import Record
from streams.kit.opening import Opened, Opener
from streams.kit.parking import DISCARDED
from streams.kit.rows import RowMissing, Rows, Wanted

MOST_CHARACTERS = 160


class Would(Enum):
    """What would become of a record."""

    HANDLE = "would be handled"
    ASK = "would ask"
    FAIL = "would fail"
    WAIT = "would wait"
    LET_GO = "would be let go of, as it was discarded"


class Forecast(NamedTuple):
    """`details`: the facts it would say and the effects it would ask, or why it fails or waits."""

    item: Item
    event: str
    would: Would
    details: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        about = plain(self.item.parked.key) or "(no key)"
        yield f"{self.item.id}  {plain(self.event)} about {about}: {self.would.value}"
        yield from (f"    {detail}" for detail in self.details)


class Forecaster:
    """Foretells the decisions of one service, over one read-only connection to its database."""

    def __init__(self, reach: Reach, service: str, connection: Connection) -> None:
        self._service = reach.find(service)
        self._codec = Codec(reach.language, reach.registry)
        self._events = Events(reach.language, reach.registry)
        self._connection = connection
        self._timestamp = milliseconds(datetime.now(UTC))
        self._lanes: dict[int, tuple[Lane, Opener]] = {}
        self._prepared = False

    async def line(self, head: Item) -> list[Forecast]:
        """A head, and what waits behind it. Raises `LanguageError` and `RegistryAway`."""
        if not self._prepared:
            await self._codec.prepare(self._service.name, self._service.says.values())
            self._prepared = True
        in_line = await items.line(self._connection, head.id) if head.parked.holds else [head]
        await self._codec.learn(each.parked.record.value for each in in_line)
        lane, opener = await self._lane(head.id.partition)
        draft = Draft(lane, [Delivery(p.record, p.envelope, p) for p in (each.parked for each in in_line)], {})
        rows = Rows()
        found: list[Forecast] = []
        is_held = False
        for item, opened in zip(in_line, opener.open(draft), strict=True):
            event = await self._events.name(item.parked.record)
            if is_held:
                before = found[-1]
                details = before.details if before.would is Would.WAIT else (f"for what becomes of {before.item.id}",)
                found.append(Forecast(item, event, Would.WAIT, details))
                continue
            forecast = Forecast(item, event, *await self._decide(draft, rows, opened))
            found.append(forecast)
            # One that is wrong itself holds the others no more.
            frees = forecast.would is Would.FAIL and bool(draft.parking.tried) and not draft.parking.tried[-1].holds
            is_held = forecast.would not in (Would.HANDLE, Would.LET_GO) and not frees
        return found

    async def _lane(self, partition: int) -> tuple[Lane, Opener]:
        if partition not in self._lanes:
            cursor = await self._connection.execute(
                "SELECT partition_count, epoch, positions, clock, outbox_row, acknowledged FROM lanes "
                "WHERE partition = %s",
                (partition,),
            )
            count, *known = cast("tuple[Any, ...]", await cursor.fetchone())
            lane = Lane(self._service.name, partition, self._service.topics, Holding(*known))
            self._lanes[partition] = lane, Opener(self._service, self._codec, lambda key: partition_of(key, count))
        return self._lanes[partition]

    async def _decide(self, draft: Draft, rows: Rows, opened: Opened) -> tuple[Would, tuple[str, ...]]:
        """One record upon `rows`, which keep what follows from it."""
        parked = opened.delivery.parked
        if parked is not None and parked.reason == DISCARDED:
            return Would.LET_GO, ()
        for shared in (False, True):
            await self._give(rows, wanted(self._service, [opened], shared=shared, rows=rows), draft.lane.partition)
        while True:
            mark = rows.mark()
            fold = Fold(self._service, self._codec, rows, {}, self._timestamp)
            try:
                fold.lane(draft, [opened])
                break
            except RowMissing as missing:
                rows.undo(mark)
                await self._give(rows, {missing.state: [missing.key]}, draft.lane.partition)
        for _, error in (*fold.put_aside, *fold.failed_again):
            return Would.FAIL, (f"{type(error).__name__}: {cut(str(error), MOST_CHARACTERS)}",)
        said = [f"says {await self._told(draft, number)}" for number in range(len(draft.said))]
        if fold.asked:
            asks = [f"asks {type(each).__name__} {_short(msgspec.to_builtins(each))}" for each in fold.asked.values()]
            return Would.ASK, (*said, *asks, "what follows depends on the answer")
        return Would.HANDLE, tuple(said) or (self._quietly(opened),)

    async def _told(self, draft: Draft, number: int) -> str:
        fact = draft.said[number]
        record = Record(fact.topic, draft.lane.partition, 0, fact.timestamp, fact.key, fact.value, fact.headers)
        name, fields = await self._events.decode(record)
        return f"{name} {_short(fields)}"

    def _quietly(self, opened: Opened) -> str:
        return "changes only rows" if self._service.is_projection and opened.event is not None else "says nothing"

    async def _give(self, rows: Rows, needed: Wanted, partition: int) -> None:
        """Load what is not in memory yet, without any lock."""
        for state, keys in rows.missing(needed).items():
            cursor = await self._connection.execute(
                sql.SQL(
                    "SELECT coalesce(json_agg(r), '[]')::text FROM (SELECT * FROM {} WHERE {} = ANY(%s::text[])) r"
                ).format(sql.Identifier(state.table), sql.Identifier(state.key)),
                (list(keys),),
            )
            [text] = cast("tuple[str]", await cursor.fetchone())
            found: Sequence[State] = msgspec.json.decode(text, type=list[state], strict=False)  # type: ignore[valid-type]
            rows.give(state, found, keys, dict.fromkeys(keys, partition))


def _short(fields: Mapping[str, Any]) -> str:
    return cut(", ".join(f"{name}={value}" for name, value in fields.items()), MOST_CHARACTERS)
