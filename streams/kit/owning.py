"""Which lanes are ours: taken when the group gives them, if log and database agree; halted if not; dropped when lost.

    given by the group ──▶ ours ──────▶ dropped: taken back by the group, or lost to a higher epoch
                      │      │
                      ▼      ▼
                       halted: to go on would be a guess; somebody decides, or owns the lane by now

Whatever is known here of a lane, the database knows too: to drop one is to forget it.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from datetime import datetime, timedelta

from streams.kit.errors import DatabaseBehind, LogLost, LogShorter, LogTruncated, RefusedToGuess, TopicReplaced
from streams.kit.faultpoints import reached
from streams.kit.lane import Holding, Lane
from streams.kit.liveness import Progress
from streams.kit.log import Answered, Log, LogAway
from streams.kit.logs import logger
from streams.kit.outbox import Outbox
from streams.kit.service import Service
from streams.kit.settings import WorkerSettings
from streams.kit.store import Store
from streams.kit.telemetry import Telemetry

#: So long a step waits for the log's answer about lanes that were given just now; then it goes on with all others.
ANSWER_SECONDS = 0.5
ASK_AGAIN_SECONDS = 2.0


class Owned:
    """The lanes of one worker, by partition. `room` is called when facts were acknowledged, `forget` when a lane goes.

    `one_at_a_time` is held while a lane is taken, so that none is let go meanwhile.
    """

    def __init__(
        self,
        service: Service,
        log: Log,
        store: Store,
        settings: WorkerSettings,
        *,
        now: Callable[[], datetime],
        telemetry: Telemetry,
        progress: Progress,
        one_at_a_time: asyncio.Lock,
        room: Callable[[], None],
        forget: Callable[[int], None],
    ) -> None:
        self.lanes: dict[int, Lane] = {}
        self.outboxes: dict[int, Outbox] = {}
        self.halted: dict[int, RefusedToGuess] = {}
        self._service = service
        self._log = log
        self._store = store
        self._settings = settings
        self._now = now
        self._telemetry = telemetry
        self._progress = progress
        self._one_at_a_time = one_at_a_time
        self._room = room
        self._forget = forget
        #: What the group gave, by the number of its assignment.
        self._taken: dict[int, int] = {}
        self._lost: dict[int, datetime] = {}
        self._reading: set[int] = set()
        self._halted_under: dict[int, int | None] = {}
        self._told: set[int] = set()
        #: Of lanes that are given and not taken: whether the log has answered, and why it has not.
        self._asking: dict[int, asyncio.Task[bool]] = {}
        self._unreachable: dict[int, str] = {}

    @property
    def away(self) -> str | None:
        """Why a lane that is ours cannot be taken yet."""
        return next(iter(self._unreachable.values()), None)

    # -- taking ------------------------------------------------------------------------------------------------------

    async def take_assigned(self) -> None:
        """Drop what the group took back, take what it gives. Raises `LogBegunAnew` for all lanes when one says so."""
        for outbox in self.outboxes.values():
            if outbox.begun_anew is not None:
                raise outbox.begun_anew
        assigned = self._log.assigned()
        for partition in [p for p, given in self._taken.items() if assigned.get(p) != given]:
            self.drop(partition)
        self._claim_lost()
        for partition in await self._reachable({p for p in assigned if p not in self._taken}):
            async with self._one_at_a_time:
                # While the lanes before it were taken, the group may have given it to somebody else, who would lose it
                # to us and not take it again before the next rebalance.
                if self._log.assigned().get(partition) == assigned[partition]:
                    await self._take_over(partition)
                    self._taken[partition] = assigned[partition]
        # Only now is anything fetched: the next lane's questions would wait behind this one's long poll.
        for partition in [p for p in self.lanes if p not in self._reading]:
            self._log.seek(partition, self.lanes[partition].positions)
            self._reading.add(partition)

    async def _reachable(self, wanted: Set[int]) -> Sequence[int]:
        """Of which of these lanes the log says where they begin and end. Asked beside all work: a partition without a
        leader holds up no other lane, and nobody takes a lane from its owner that they could not work on."""
        for partition in self._asking.keys() - wanted:
            self._asking.pop(partition).cancel()
            self._unreachable.pop(partition, None)
        if new := wanted - self._asking.keys():
            self._asking.update((p, asyncio.create_task(self._ask(p), name=f"ask-about-{p}")) for p in sorted(new))
            await asyncio.wait([self._asking[partition] for partition in new], timeout=ANSWER_SECONDS)
        done = [partition for partition, asking in self._asking.items() if asking.done()]
        return [partition for partition in done if self._asking.pop(partition).result()]

    async def _ask(self, partition: int) -> bool:
        own = () if self._service.is_projection else (self._service.name,)
        try:
            await self._log.extents(partition, *own)
        except LogAway as error:
            self._unreachable[partition] = str(error)
            self._telemetry.again("kafka_away")
            again = ASK_AGAIN_SECONDS
            logger().warning("kafka_away", partition=partition, error=str(error), again_in_seconds=again)
            await asyncio.sleep(again)
            return False
        self._unreachable.pop(partition, None)
        return True

    def _claim_lost(self) -> None:
        """Drop lanes lost to a higher epoch that the group still gives to us two sessions later, to take them again.

        Who took them was no member of the group any more, and does not work on them.
        """
        now = self._now()
        patience = timedelta(milliseconds=2 * self._settings.session_timeout_ms)
        # A clock that was set back since must not make that longer.
        for partition in [p for p, since in self._lost.items() if not timedelta() <= now - since <= patience]:
            self.drop(partition)

    async def _take_over(self, partition: int) -> None:
        """Become the lane's owner: raise its epoch, then read what the database knows, and go on from there."""
        epoch: int | None = None
        try:
            holding, unsaid = await self._store.take_over(partition, self._log.partition_count)
            epoch = holding.epoch
            reached("after-takeover")
            own = [fact for _, facts in unsaid for fact in facts if fact.topic == self._service.name]
            answered = await self._agrees(partition, holding, len(own))
            lane = Lane(self._service.name, partition, self._service.topics, holding)
            for topic, extent in (await self._log.extents(partition)).items():
                position = lane.positions[topic]
                if position < extent.start:
                    raise LogTruncated(self._service.name, topic, partition, position, extent.start)
                if position > extent.end:
                    raise LogShorter(self._service.name, topic, partition, position, extent.end)
                heard = [each for each in answered.get(topic, ()) if extent.start <= each.offset < position]
                if heard:
                    await self._still_is(topic, partition, heard)
        except RefusedToGuess as refusal:
            self.halt(partition, refusal, epoch)
            return
        self.lanes[partition] = lane
        self.outboxes[partition] = Outbox(partition, self._log, holding.acknowledged, self._room)
        self.outboxes[partition].add(unsaid)
        self._progress.note(partition)
        logger().info("lane_taken", partition=partition, epoch=lane.epoch, to_say_again=len(unsaid))
        self._telemetry.lanes_held.set(len(self.lanes))

    async def _still_is(self, topic: str, partition: int, heard: Sequence[Answered]) -> None:
        """Check that the topic is the one of which these requests were heard, unless somebody has decided since.

        After a decision one alone proves nothing: it may have been parked before, and be answered now.
        """
        for each in heard:
            if await self._log.correlation(topic, partition, each.offset) in (each.correlation, None):
                return
        me = self._service.name
        decided = await self._store.decided(topic, me, partition)
        since = [each for each in heard if each.sequence > decided]
        if len(since) > (1 if decided else 0):
            raise TopicReplaced(me, topic, partition, since[0].offset)

    async def _agrees(self, partition: int, holding: Holding, waiting: int) -> Mapping[str, Sequence[Answered]]:
        """Check that the log and the database know of the same facts of ours, but for those `waiting` to be said.

        A fact is committed before it is said, so the log cannot be further: unless the database was lost, or restored
        from a backup. What was acknowledged is in the log: unless that has lost its end. Returns what is known of the
        last requests that were answered (`Said.answered`).
        """
        me = self._service.name
        if self._service.is_projection:
            return {}
        known = holding.clock.get(me, 0)
        acknowledged = known - waiting
        said = await self._log.last_said(me, partition, acknowledged)
        if said is None:
            return {}
        if said.last > known:
            raise DatabaseBehind(me, partition, known, said.last)
        if said.up_to < acknowledged and acknowledged > await self._store.given_up(partition):
            raise LogLost(me, partition, acknowledged, said.up_to)
        return said.answered

    # -- halting -----------------------------------------------------------------------------------------------------

    def halt(self, partition: int, refusal: RefusedToGuess, epoch: int | None) -> None:
        """Do nothing more in the lane. `epoch`: under which; None before it was ours."""
        if partition not in self.halted:
            self.halted[partition] = refusal
            self._halted_under[partition] = epoch
            logger().error("lane_halted", partition=partition, reason=type(refusal).__name__, error=str(refusal))
        self._telemetry.lanes_halted.set(len(self.halted))

    @property
    def has_to_tell(self) -> bool:
        """Why a lane is halted is not written down yet."""
        return not self.halted.keys() <= self._told

    async def look_at_halted(self, now: datetime) -> None:
        """Write down why lanes are halted. One whose epoch was raised since is lost: somebody decided about it, or owns
        it now. If the group still gives it to us a while later, it is taken again."""
        for partition in self.halted.keys() - self._told:
            await self._store.note_halted(partition, self._halted_under[partition], str(self.halted[partition]))
            self._told.add(partition)
        under = {partition: epoch for partition, epoch in self._halted_under.items() if epoch is not None}
        for partition, epoch in (await self._store.epochs(under) if under else {}).items():
            if epoch > under[partition]:
                self._lost.setdefault(partition, now)

    def look_astray(self) -> None:
        """What was written beyond the lanes halts there: nobody hears it, and somebody must decide about it."""
        astray = self._log.astray()
        beyond = {p: str(refusal) for p, refusal in self.halted.items() if p >= self._log.partition_count}
        for partition, told in beyond.items():
            if partition not in astray or told != str(astray[partition]):
                self.drop(partition)
        for partition, refusal in astray.items():
            self.halt(partition, refusal, None)

    # -- letting go --------------------------------------------------------------------------------------------------

    def lose(self, partitions: Collection[int]) -> None:
        """Somebody else has raised their epochs: they are taken again only on a new assignment, or much later."""
        for partition in partitions:
            given = self._taken.get(partition)
            self.drop(partition)
            if given is not None:
                self._taken[partition] = given
                self._lost[partition] = self._now()

    def drop_all(self) -> None:
        """Forget every lane, also those that are halted or lost: all are taken again."""
        for partition in {*self.lanes, *self.halted, *self._taken}:
            self.drop(partition)
        for asking in self._asking.values():
            asking.cancel()
        self._asking.clear()
        self._unreachable.clear()

    def drop(self, partition: int) -> None:
        """Forget everything in memory about a lane; the database has it for the next owner."""
        self._taken.pop(partition, None)
        self._lost.pop(partition, None)
        self._reading.discard(partition)
        self._halted_under.pop(partition, None)
        self._told.discard(partition)
        self._progress.forget(partition)
        self._forget(partition)
        for topic in self._service.topics:
            self._telemetry.no_lag(topic, partition)
        if self.halted.pop(partition, None) is not None:
            self._telemetry.lanes_halted.set(len(self.halted))
        if self.lanes.pop(partition, None) is not None:
            logger().info("lane_dropped", partition=partition)
        outbox = self.outboxes.pop(partition, None)
        if outbox is not None:
            outbox.drop()
        self._telemetry.lanes_held.set(len(self.lanes))
