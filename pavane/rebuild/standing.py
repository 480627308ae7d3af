"""The live database as a rebuild finds it: right, behind its log, empty, or not there at all."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from pavane.rebuild import beside
from pavane.rebuild.beside import Begun, Connection
from pavane.rebuild.errors import CannotRebuild
from pavane.rebuild.stretches import Origin
from streams.kit.log import ToSay
from streams.kit.service import Service

LIVE = "public"
_facts = msgspec.msgpack.Decoder(list[ToSay])


class LiveLane(NamedTuple):
    """A lane as the live database has it: its owner's epoch, what it has heard, and what it has said."""

    partition: int
    epoch: int
    positions: Mapping[str, int]
    clock: Mapping[str, int]


class Standing(NamedTuple):
    """`lanes`: none when the tables are not there, or empty. `parked`: what waits to be handled with its key."""

    lanes: Mapping[int, LiveLane]
    parked: frozenset[Origin]

    def said(self, service: Service, partition: int) -> int:
        """The last sequence that the lane knows of its own service."""
        lane = self.lanes.get(partition)
        return lane.clock.get(service.name, 0) if lane is not None else 0

    def behind(self, service: Service, fresh: Mapping[int, beside.Lane]) -> dict[int, int]:
        """How many facts that are in the log each lane does not know to have said. Only lanes that miss some.

        A fact is committed before it is said: a live database is never behind its log, unless it was lost, or is an
        older one.
        """
        missing = {p: lane.clock.get(service.name, 0) - self.said(service, p) for p, lane in fresh.items()}
        return {partition: facts for partition, facts in missing.items() if facts > 0}

    def expect_parked(self, service: Service, begun: Begun | None) -> None:
        """A view's rows are made without what it had put aside when that began. Raises `CannotRebuild`."""
        if service.is_projection and self.lanes and begun is not None and begun.parked != self.parked:
            raise CannotRebuild(
                f"{service.name} has parked records, or handled parked ones, since this began: begin again, with "
                f"--restart"
            )


async def look(connection: Connection) -> Standing:
    """What the connection sees of the live tables, at one moment if it is in a transaction that does."""
    cursor = await connection.execute(f"SELECT to_regclass('{LIVE}.lanes') IS NOT NULL")
    if not (await cursor.fetchone() or (False,))[0]:
        return Standing({}, frozenset())
    cursor = await connection.execute(f"SELECT partition, epoch, positions, clock FROM {LIVE}.lanes ORDER BY partition")
    lanes = {lane[0]: LiveLane(*lane) for lane in await cursor.fetchall()}
    cursor = await connection.execute(f"SELECT topic, partition, log_offset FROM {LIVE}.parked WHERE holds")
    return Standing(lanes, frozenset((t, p, o) for t, p, o in await cursor.fetchall()))


async def unsaid(connection: Connection, partition: int) -> Sequence[ToSay]:
    """Every fact that the lane's outbox still holds, in order; some of them are in the log already."""
    cursor = await connection.execute(
        f"SELECT facts FROM {LIVE}.outbox WHERE partition = %s ORDER BY number", (partition,)
    )
    return [fact for (facts,) in await cursor.fetchall() for fact in _facts.decode(facts)]
