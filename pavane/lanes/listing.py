"""`list`: every lane of the services asked for, and why it is halted. Read only, and no moment is the same for all."""

import asyncio
from collections.abc import Mapping, Sequence, Set
from typing import LiteralString, NamedTuple

import msgspec
import typer
from rich.text import Text

from pavane.lanes.holding import Held, held
from pavane.lanes.reading import LogView
from pavane.lines import a_console
from pavane.operators.errors import DatabaseUnreadable, NotAsked
from pavane.operators.reach import Connection, Reach
from pavane.operators.words import aligned, plain
from streams.kit.counting import REMEMBERED
from streams.kit.errors import RecordsAstray
from streams.kit.log import Extent

DONE, SOME_HALTED, NOT_ALL_ASKED = 0, 1, 2
HEADINGS = ("service", "lane", "epoch", "to hear", "to say", "parked", "state")

LANES: LiteralString = """
SELECT partition, epoch, positions, clock, halted,
    (SELECT count(*) FROM outbox o WHERE o.partition = l.partition AND o.number > l.acknowledged),
    (SELECT count(*) FROM parked p WHERE p.partition = l.partition)
FROM lanes l ORDER BY partition
"""


class Lane(NamedTuple):
    """One lane as its database has it. `to_hear`: records of each topic that the log holds beyond its position, of the
    topics that there are; None where Kafka was not asked, or does not answer.

    `to_say`: outbox rows that are not known to be in the log. `held`: whether some process holds it, where Kafka says.
    """

    service: str
    partition: int
    epoch: int
    positions: Mapping[str, int]
    clock: Mapping[str, int]
    halted: str | None
    to_say: int
    parked: int
    to_hear: Mapping[str, int] | None = None
    held: bool | None = None

    @property
    def missing(self) -> Set[str]:
        """The topics that it hears and Kafka does not have; none where Kafka says nothing."""
        return self.positions.keys() - self.to_hear.keys() if self.to_hear is not None else frozenset()

    @property
    def state(self) -> str:
        """In a word or some."""
        if self.halted:
            return "halted"
        return "a topic is missing" if self.missing else "nobody holds it" if self.held is False else "goes on"

    def among(self, extents: Mapping[tuple[str, int], Extent]) -> "Lane":
        """The lane, with what the log holds for it."""
        ends = {topic: extents.get((topic, self.partition)) for topic in self.positions}
        to_hear = {topic: max(0, end.end - self.positions[topic]) for topic, end in ends.items() if end is not None}
        return self._replace(to_hear=to_hear)


class Stand(NamedTuple):
    """All lanes of some services. `astray`: what was written where there is no lane, and topics that are missing.
    `unasked`: what did not answer, of which nothing is known."""

    lanes: Sequence[Lane]
    astray: Sequence[str]
    unasked: Sequence[str]


async def stand_of(reach: Reach, services: Sequence[str]) -> Stand:
    """How these services stand, or all of them, as far as it can be asked."""
    lanes: list[Lane] = []
    counts: dict[str, int] = {}
    unasked: list[str] = []
    for service in reach.services(services):
        try:
            async with reach.database(service, reading=True) as connection:
                lanes += await stored(connection, service)
                [count] = await (await connection.execute(REMEMBERED)).fetchone() or (None,)
        except DatabaseUnreadable as error:
            unasked.append(str(error))
            continue
        counts |= {topic: count for topic in reach.find(service).topics if count is not None}
    try:
        lanes = await with_the_log(reach, lanes)
        astray = await asyncio.to_thread(_astray, reach.kafka, counts)
        holding = await asyncio.to_thread(held, reach.kafka, {lane.service for lane in lanes}) or {}
    except NotAsked as error:
        return Stand(lanes, (), [*unasked, str(error)])
    lanes = [each._replace(held=_is_held(each, holding)) for each in lanes]
    missing = sorted({topic for lane in lanes for topic in lane.missing})
    return Stand(lanes, [*map(_is_missing, missing), *astray], unasked)


async def lanes_of(reach: Reach, services: Sequence[str]) -> Sequence[Lane]:
    """All lanes of these services, or of all. Raises `NotAsked`."""
    stand = await stand_of(reach, services)
    if stand.unasked:
        raise NotAsked(stand.unasked[0])
    return stand.lanes


async def stored(connection: Connection, service: str) -> list[Lane]:
    """The lanes of the service as its database has them, without what the log holds for them."""
    cursor = await connection.execute(LANES)
    return [Lane(service, *row) for row in await cursor.fetchall()]


async def with_the_log(reach: Reach, lanes: Sequence[Lane]) -> list[Lane]:
    """The same with what the log holds for them. Raises `NotAsked`."""
    wanted = {(topic, lane.partition) for lane in lanes for topic in lane.positions}
    extents = await asyncio.to_thread(_extents, reach.kafka, wanted)
    return [lane.among(extents) for lane in lanes]


async def print_lanes(reach: Reach, services: Sequence[str], *, as_json: bool) -> int:
    """Print them. Exit code 1 when some are halted or something was written where there is none, 2 when something did
    not answer."""
    stand = await stand_of(reach, services)
    if as_json:
        said = {"lanes": [lane._asdict() for lane in stand.lanes], "astray": stand.astray, "unasked": stand.unasked}
        typer.echo(msgspec.json.encode(said).decode())
    else:
        console = a_console()
        for line in [*lines(stand), *(f"\n{each}" for each in stand.astray)]:
            console.print(Text(line), soft_wrap=True)
    for each in stand.unasked:
        typer.echo(f"pavane: {each}", err=True)
    if stand.unasked:
        return NOT_ALL_ASKED
    return SOME_HALTED if stand.astray or any(lane.halted for lane in stand.lanes) else DONE


def lines(stand: Stand) -> list[str]:
    """The listing as text: a line a lane, then why some are halted."""
    rows = [
        (
            lane.service,
            str(lane.partition),
            str(lane.epoch),
            "?" if lane.to_hear is None else str(sum(lane.to_hear.values())),
            str(lane.to_say),
            str(lane.parked),
            lane.state,
        )
        for lane in stand.lanes
    ]
    said = aligned(HEADINGS, rows) if rows else ["No lane is known." if stand.unasked else "No lane was ever taken."]
    for lane in stand.lanes:
        if lane.halted:
            said += ["", f"{lane.service}, lane {lane.partition}: {plain(lane.halted)}"]
    return said


def _is_missing(topic: str) -> str:
    return (
        f"Kafka has no topic {topic} any more: who hears it stands still. If it is the right cluster, make it again "
        f"with 'pavane topics apply'; then look here again."
    )


def _is_held(lane: Lane, holding: Held) -> bool | None:
    return lane.partition in holding[lane.service] if lane.service in holding else None


def _astray(bootstrap: str, lanes: Mapping[str, int]) -> list[str]:
    with LogView.at(bootstrap) as log:
        return [
            str(RecordsAstray(topic, partition, extent.end - extent.start, lanes[topic]))
            for (topic, partition), extent in log.beyond(lanes).items()
        ]


def _extents(bootstrap: str, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], Extent]:
    with LogView.at(bootstrap) as log:
        return log.extents(wanted)
