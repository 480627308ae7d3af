"""One rebuild from its beginning to its verdict: fresh tables, filled from the log, compared with the live ones."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import NamedTuple, Self

from infra.addresses import KAFKA, REGISTRY, database_variable
from pavane.audit.databases import lane_count
from pavane.audit.log import LogReader
from pavane.lanes.reading import LogView
from pavane.rebuild import backup as taken
from pavane.rebuild import beside, building, comparing, placing, standing
from pavane.rebuild.building import Filling
from pavane.rebuild.comparing import Difference
from pavane.rebuild.databases import database_of
from pavane.rebuild.errors import BegunOtherwise, CannotRebuild
from pavane.rebuild.folding import Folding
from pavane.rebuild.stretches import Ends, HeardFacts, OwnFacts, Stretch, stretches_of, topics_of
from pavane.running import environment_of
from streams.kit import envelope, kafka, run
from streams.kit.codec import Codec
from streams.kit.language import Language
from streams.kit.log import Extent
from streams.kit.service import Service

#: So few records are folded in this process: to start others takes longer.
FEW_RECORDS = 20_000
MOST_ROUNDS = 20
LOOK_BACK_RECORDS, MOST_AT_ONCE = 100, 10_000
NEAR_SECONDS = 0.5


class Size(NamedTuple):
    """How much there is to fold: records of the log in all, and those that are folded already."""

    records: int
    folded: int


class Rebuild:
    """One service's rebuild. Nothing live is changed by anything here. Raises `NotAsked`, `EvidenceMissing`."""

    def __init__(
        self, service: Service, environment: Mapping[str, str], codec: Codec, log: LogReader, stack: AsyncExitStack
    ) -> None:
        self.service = service
        self.environment = environment
        self.codec = codec
        self.log = log
        self.url = environment[database_variable(service.name)]
        self.partitions = log.partition_count(topics_of(service), lane_count(environment))
        self._stack = stack
        self._fillings: dict[int, Filling] = {}

    @classmethod
    async def at(cls, name: str, data: Path, stack: AsyncExitStack) -> Self:
        """Of the service with that name, where the environment or the data folder says."""
        environment = environment_of(data)
        service = run.find(name)
        database_of(name, environment)
        if not environment.get(REGISTRY):
            raise CannotRebuild(f"{REGISTRY} (URL of the schema registry) is not set")
        codec = await building.a_codec(service, environment[REGISTRY])
        log = stack.enter_context(closing(LogReader(environment[KAFKA])))
        return cls(service, environment, codec, log, stack)

    def partition_of(self, key: bytes) -> int:
        """The lane of a key."""
        return kafka.partition_of(key, self.partitions)

    def end(self, topic: str, partition: int) -> int:
        """Where the partition ends now."""
        return self.log.ends([topic], self.partitions)[topic, partition]

    # -- filling -----------------------------------------------------------------------------------------------------

    async def begin(self, *, restart: bool, backup: str = "") -> bool:
        """Make the fresh tables, with the rows of a `backup` (its URL) in them if there is one.

        True: those of a rebuild by the same code are there, and are gone on with. Raises `CannotRebuild` when that one
        has not begun with this backup, or is under way elsewhere.
        """
        await self._stack.enter_async_context(beside.alone(self.service.name, self.url))
        code = beside.code_of(self.service, Language.load())
        said = await asyncio.to_thread(self.said) if backup else {}
        async with beside.connected(self.service.name, self.url) as connection:
            found = await beside.begun(connection)
            live = await standing.look(connection)
            parked = live.parked if self.service.is_projection else frozenset()
            if not restart and found is not None and (found.code, found.parked) == (code, parked):
                if backup and found.backup != taken.digest(backup):
                    raise BegunOtherwise(self.service.name)
                await self._place(connection)
                return True
            await beside.forget(connection)
            await asyncio.to_thread(beside.make_tables, self.service.name, self.url)
            # All of it or nothing: whoever is interrupted here begins again.
            async with connection.transaction():
                which = taken.digest(backup) if backup else ""
                await beside.begin(connection, self.service, code, parked, self.partitions, which)
                if backup:
                    await taken.take(self.service, backup, connection, parked, said, self.environment[KAFKA])
            return False

    async def _place(self, connection: beside.Connection) -> None:
        """Go on where the log has what comes next: if a topic was made again, that is not where it was."""
        lanes = await beside.lanes(connection)
        found = await asyncio.to_thread(placing.positions_of, self.service, lanes, self.environment[KAFKA])
        for partition, positions in found.items():
            lane = lanes[partition]
            if any(lane.positions.get(topic, 0) != position for topic, position in positions.items()):
                await beside.place(connection, partition, positions, lane.clock)

    async def forget(self) -> None:
        """Drop the fresh tables."""
        async with beside.connected(self.service.name, self.url) as connection:
            await beside.forget(connection)

    def said(self) -> dict[int, int]:
        """The last sequence of each lane that the service's topic holds; of a view, which says nothing, none."""
        me = self.service.name
        if self.service.is_projection:
            return {}
        said = dict.fromkeys(range(self.partitions), 0)
        with LogView.at(self.environment[KAFKA]) as log:
            for (_, p), extent in log.extents([(me, p) for p in said]).items():
                said[p] = last_said(log, me, p, extent)
        return said

    async def ends(self, live: standing.Standing | None = None) -> dict[int, Ends]:
        """Where each lane's facts end now, by topic; of a projection, where its live rows are (`live`, if known)."""
        topics = topics_of(self.service)
        found = await asyncio.to_thread(self.log.ends, topics, self.partitions)
        ends: dict[int, Ends] = {p: {topic: found[topic, p] for topic in topics} for p in range(self.partitions)}
        if self.service.is_projection:
            if live is None:
                async with beside.connected(self.service.name, self.url) as connection:
                    live = await standing.look(connection)
            for partition, lane in live.lanes.items():
                ends[partition] = {topic: lane.positions.get(topic, 0) for topic in topics}
        return ends

    async def lanes(self) -> dict[int, beside.Lane]:
        """How far the fresh rows are."""
        async with beside.connected(self.service.name, self.url) as connection:
            return await beside.lanes(connection)

    async def size(self) -> Size:
        """How much there is to do."""
        records = sum(end for lane in (await self.ends()).values() for end in lane.values())
        return Size(records, sum(lane.facts for lane in (await self.lanes()).values()))

    async def fill(self, processes: int, tell: building.Tell) -> None:
        """Fold until the fresh tables are as near to the log's end as makes no difference."""
        least = FEW_RECORDS
        for _ in range(MOST_ROUNDS):
            ends = await self.ends()
            begun = time.monotonic()
            left = _left(ends, await self.lanes())
            if left > FEW_RECORDS:
                self._fillings.clear()
                await building.build(self.service, self.environment, ends, processes, tell)
                continue
            await self._catch_up(ends)
            # While orders flow there is always more: what comes during a round is what the next one has.
            if time.monotonic() - begun < NEAR_SECONDS or left >= least:
                return
            least = left

    async def _catch_up(self, ends: Mapping[int, Ends]) -> None:
        """Fold in this process; what that needs is kept open for the next time."""
        if not self._fillings:
            connection = await self._stack.enter_async_context(beside.connected(self.service.name, self.url))
            await beside.complete(connection)
            for partition, lane in (await beside.lanes(connection)).items():
                stretches = await self._stretches(connection, lane, self._stack)
                folding = Folding(self.service, partition, connection, on_top=True)
                self._fillings[partition] = Filling(connection, self.service.name, lane, stretches, folding)
        for partition, filling in self._fillings.items():
            await filling.up_to(ends[partition])

    async def _stretches(
        self, connection: beside.Connection, lane: beside.Lane, stack: AsyncExitStack
    ) -> OwnFacts | HeardFacts:
        begun = await beside.begun(connection)
        parked = begun.parked if begun is not None else ()

        def new_log() -> LogReader:
            return stack.enter_context(closing(self.log.again()))

        return stretches_of(self.service, self.codec, new_log, lane, self.partition_of, parked)

    async def to_the_end(
        self, connection: beside.Connection, live: standing.Standing
    ) -> dict[int, beside.Lane]:
        """Fold the last facts, while `connection` keeps the live lanes from moving: the log's, and the outboxes'."""
        if self.service.is_projection:
            # It hears the rest from where the fresh rows are, as after any takeover: nobody waits for that here.
            return await self.lanes()
        # Nothing that is asked here may wait for what `connection` has locked.
        await self._catch_up(await self.ends(live))
        for partition in live.lanes.keys() & self._fillings.keys():
            filling = self._fillings[partition]
            assert isinstance(filling.stretches, OwnFacts)
            async for stretch in filling.stretches.unsaid(await standing.unsaid(connection, partition)):
                await filling.fold(stretch)
            await filling.write()
        return await self.lanes()

    # -- comparing ---------------------------------------------------------------------------------------------------

    async def compare(self) -> list[Difference]:
        """Every row, fresh against live. Raises `CannotRebuild` when a view has parked records since this began."""
        return await comparing.compare(self.service, self.url, self._newer)

    async def _newer(self, connection: beside.Connection) -> AsyncIterator[tuple[int, Stretch]]:
        """What the live rows know beyond the fresh ones, as the connection sees both."""
        live, lanes = await standing.look(connection), await beside.lanes(connection)
        live.expect_parked(self.service, await beside.begun(connection))
        ends = await self.ends()
        for partition in live.lanes.keys() & lanes.keys():
            async with AsyncExitStack() as stack:
                facts = await self._stretches(connection, lanes[partition], stack)
                known = live.lanes[partition]
                async for stretch in _up_to(facts, known, ends[partition], self.service.name, connection):
                    yield partition, stretch


async def _up_to(
    facts: OwnFacts | HeardFacts, live: standing.LiveLane, ends: Ends, me: str, connection: beside.Connection
) -> AsyncIterator[Stretch]:
    """The facts up to what the live lane knows: from the log, and from its outbox what is not there yet."""
    if isinstance(facts, HeardFacts):
        async for stretch in facts.up_to(live.positions):
            yield stretch
        return
    facts.most = live.clock.get(me, 0)
    async for stretch in facts.up_to(ends):
        yield stretch
    async for stretch in facts.unsaid(await standing.unsaid(connection, live.partition)):
        yield stretch


def last_said(log: LogView, topic: str, partition: int, extent: Extent) -> int:
    """The last fact that the topic's own service said in this lane; looked for from the end back, as others may have
    written there."""
    end, most = extent.end, LOOK_BACK_RECORDS
    while end > extent.start:
        first = max(extent.start, end - most)
        records = log.records(topic, partition, first, end, most)
        own = (envelope.of_own(topic, partition, record.headers) for record in records)
        if sequences := [said.sequence for said in own if said is not None]:
            return max(sequences)
        end, most = first, min(most * 2, MOST_AT_ONCE)
    return 0


def _left(ends: Mapping[int, Ends], lanes: Mapping[int, beside.Lane]) -> int:
    """How many records are to be folded, about."""
    return sum(
        max(0, end - lanes[partition].positions.get(topic, 0))
        for partition, of_lane in ends.items()
        for topic, end in of_lane.items()
    )
