"""The worker: records in, batches, facts out, for the lanes that the group gives to this instance.

0. Take the lanes that the group gives (`owning`).
1. Read records into the lanes (`log`), and take from them what may be heard (`lane`, `clock`).
2. Open them as events (`opening`), load the rows they need (`rows`), fold them (`fold`), ask the world, commit rows,
   positions, clocks and outbox at once under the lanes' epochs (`batch`, `store`).
3. Say the facts, in order, until the log has acknowledged them (`outbox`).

Whatever goes wrong before the commit changes nothing: the records are the next ones again. Whatever goes wrong after
it is made good from the outbox, by this worker or by the next owner of the lane.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from streams.kit.batch import Batches
from streams.kit.codec import Codec
from streams.kit.envelope import Envelope
from streams.kit.errors import PavaneError, StaleEpoch, Then
from streams.kit.events import milliseconds
from streams.kit.fold import Fold
from streams.kit.lane import DUE, Delivery, Draft, Lane
from streams.kit.liveness import Progress
from streams.kit.log import Log, LogBegunAnew, Record
from streams.kit.logs import logger
from streams.kit.opening import PartitionOf
from streams.kit.owning import Owned
from streams.kit.protecting import Protector
from streams.kit.service import Service, World
from streams.kit.settings import WorkerSettings
from streams.kit.store import BatchRefused, DatabaseAway, Store
from streams.kit.telemetry import Telemetry

DRAIN_SECONDS = 2.0
LOOK_AFTER_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 5.0


class Worker:
    """Runs one service over the lanes that `log` assigns. Everything it knows of a lane, the database knows too."""

    def __init__(
        self,
        service: Service,
        log: Log,
        store: Store,
        codec: Codec,
        world: World | None,
        settings: WorkerSettings,
        partition_of: PartitionOf,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        protector: Protector | None = None,
    ) -> None:
        self.service = service
        self.away: str | None = None
        self.progress = Progress()
        self._log = log
        self._store = store
        self._settings = settings
        self._now = now
        self._batches = Batches(service, codec, store, world, partition_of, now, protector)
        self._telemetry = Telemetry(service.name)
        self._one_at_a_time = asyncio.Lock()
        self._noted: dict[int, int] = {}
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._owned = Owned(
            service,
            log,
            store,
            settings,
            now=now,
            telemetry=self._telemetry,
            progress=self.progress,
            one_at_a_time=self._one_at_a_time,
            room=self._room.set,
            forget=self._forget,
        )
        self.lanes, self.outboxes, self.halted = self._owned.lanes, self._owned.outboxes, self._owned.halted
        #: The lanes of a batch that was refused, and how many records each still hears one by one, in turn.
        self._one_by_one: dict[int, int] = {}
        self._stuck: set[tuple[int, str]] = set()
        self._due_at = self._look_after_at = datetime.min.replace(tzinfo=UTC)
        self._pause = 0.0

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`, then say what is still to be said and let go of everything."""
        self.progress.note()
        while not self._stopping.is_set():
            try:
                await self.step(wait_seconds=self._settings.due_poll_seconds)
                self.away, self._pause = self._owned.away, 0.0
            except PavaneError as error:
                await self._cope(error)
        await self.let_go()
        await self._store.close()

    async def _cope(self, error: PavaneError) -> None:
        """Do what the error's class says; what it does not say is not for the worker to decide."""
        match error.then:
            case Then.RETAKE:
                self.progress.note()
                await self._wait_for_database(error)
            case Then.LATER:
                self.progress.note(*self.lanes)
                self.away = str(error)
                logger().warning("batch_later", reason=type(error).__name__, error=str(error))
                await self._wait(self._stopping, LONGEST_PAUSE_SECONDS)
            case _:
                raise error

    def stop(self) -> None:
        """Ask the loop to end. The batch under way is finished; what it says is waited for, for a bounded time."""
        self._stopping.set()
        self._batches.letting_go.set()

    async def step(self, wait_seconds: float = 0.0) -> int:
        """Read, and run one batch if there is anything to hear. How many records were heard."""
        await self._owned.take_assigned()
        await self._read(wait_seconds)
        async with self._one_at_a_time:
            drafts = self._drafts()
            await self._add_timed(drafts)
            to_run = [draft for draft in drafts if draft.moved or draft.deliveries]
            heard = await self._run(to_run) if to_run else 0
            if drafts and not to_run:
                self._one_by_one.clear()
            await self._look_after()
        # A halted lane waits for somebody to decide; that is told as such.
        self.progress.note(*(p for p, lane in self.lanes.items() if lane.halted is not None or not lane.held_back()))
        return heard

    async def let_go(self) -> None:
        """Let go of all lanes: finish the batch under way, say what is to be said if that is quickly done."""
        self._batches.letting_go.set()
        async with self._one_at_a_time:
            try:
                await asyncio.gather(*(outbox.drained(DRAIN_SECONDS) for outbox in self.outboxes.values()))
                # So that the next owner need not say it again. If the database is away now, it will, and nobody minds.
                with contextlib.suppress(DatabaseAway):
                    await self._acknowledge()
            finally:
                self._owned.drop_all()
                if not self._stopping.is_set():
                    self._batches.letting_go.clear()

    async def _wait_for_database(self, error: PavaneError) -> None:
        """It is unknown what was committed, or where the log begins: take all lanes again, once there is an answer."""
        self.away = str(error)
        away = "database_away" if isinstance(error, DatabaseAway) else "kafka_away"
        if isinstance(error, LogBegunAnew):
            away = "log_begun_anew"
        self._telemetry.again(away)
        self._owned.drop_all()
        self._pause = min(max(self._pause * 2, 0.1), LONGEST_PAUSE_SECONDS)
        logger().warning(away, error=str(error), again_in_seconds=round(self._pause, 2))
        await self._wait(self._stopping, self._pause * random.uniform(0.5, 1.0))

    def _forget(self, partition: int) -> None:
        self._noted.pop(partition, None)
        self._one_by_one.pop(partition, None)
        self._batches.forget(partition)

    # -- reading and hearing -----------------------------------------------------------------------------------------

    async def _read(self, wait_seconds: float) -> None:
        """Read what there is room for. With facts unacknowledged over the bound, wait for the log instead."""
        unacknowledged = sum(outbox.unacknowledged_facts for outbox in self.outboxes.values())
        self._telemetry.unacknowledged.set(unacknowledged)
        if unacknowledged >= self._settings.unacknowledged_facts:
            self._room.clear()
            await self._wait(self._room, wait_seconds)
        wanted = [
            (topic, lane.partition)
            for lane in self.lanes.values()
            for topic in self.service.topics
            if lane.halted is None and lane.queued(topic) < self._settings.queue_records
        ]
        ready = any(lane.ready for lane in self.lanes.values())
        with self._telemetry.step("read"):
            for record in await self._log.read(wanted, 0.0 if ready else wait_seconds):
                lane = self.lanes.get(record.partition)
                if lane is not None:
                    lane.push(record)
        self._telemetry.held_back.set(sum(lane.held_back() for lane in self.lanes.values()))

    def _drafts(self) -> list[Draft]:
        room = self._settings.unacknowledged_facts - sum(o.unacknowledged_facts for o in self.outboxes.values())
        if room <= 0:
            return []
        lanes = [lane for lane in self.lanes.values() if lane.halted is None]
        drafts: list[Draft] = []
        if refused := [lane for partition in self._one_by_one for lane in lanes if lane.partition == partition]:
            for lane in refused:
                drafts.append(self._order(lane, 1))
                if drafts[-1].moved:
                    break
            return drafts
        self._one_by_one.clear()
        # Lanes with little to hear first: what they leave of their share goes to the others.
        lanes.sort(key=Lane.held_back)
        left = self._settings.batch_records
        for number, lane in enumerate(lanes):
            drafts.append(self._order(lane, max(1, left // (len(lanes) - number))))
            left -= len(drafts[-1].deliveries)
        return drafts

    def _order(self, lane: Lane, limit: int) -> Draft:
        draft = lane.order(limit)
        if lane.halted is not None:
            self._owned.halt(lane.partition, lane.halted, lane.epoch)
        return draft

    async def _add_timed(self, drafts: Sequence[Draft]) -> None:
        """Add what its time has come for, after what was read: deadlines, and parked records to be tried again."""
        now, alone = self._now(), bool(self._one_by_one)
        waits = _is_to_come(self._due_at, now, self._settings.due_poll_seconds)
        if not drafts or (waits and not alone) or (alone and _any_heard(drafts)):
            return
        self._due_at = now + timedelta(seconds=self._settings.due_poll_seconds)
        by_partition = {draft.lane.partition: draft for draft in drafts}
        most = 1 if alone else self._settings.batch_records
        # What waits behind a parked record, or failed, would be the oldest for ever and leave no room for others.
        without = [*(key for _, key in self._stuck), *(key for draft in drafts for key in draft.lane.held)]
        for state in self.service.timed:
            for row in await self._store.due(state, list(by_partition), now, most, without):
                partition = int(getattr(row, "partition"))  # noqa: B009
                by_partition[partition].deliveries.append(self._due(partition, row.row_key, now))
        if alone and _any_heard(drafts):
            return

        parked = await self._store.to_retry(list(by_partition), now, most)
        for partition, each in parked:
            by_partition[partition].deliveries.append(Delivery(each.record, each.envelope, each))
        if parked:
            # More may follow, or come next of the same keys.
            self._due_at = now

    def _due(self, partition: int, key: str, now: datetime) -> Delivery:
        topic = self.service.name + DUE
        record = Record(topic, partition, 0, milliseconds(now), key.encode(), None, ())
        return Delivery(record, Envelope(f"{topic}/{partition}/{key}", topic, partition, 0, {}, "", key, None))

    async def _run(self, drafts: list[Draft]) -> int:
        acknowledged = {partition: outbox.acknowledged for partition, outbox in self.outboxes.items()}
        try:
            fold = await self._batches.run(drafts, acknowledged)
        except BaseException as error:
            for draft in drafts:
                draft.lane.put_back(draft)
            if not isinstance(error, PavaneError) or error.then not in (Then.DROP, Then.AGAIN):
                raise
            self._do_again(drafts, error)
            return 0
        self.progress.note(*(draft.lane.partition for draft in drafts))
        for draft in drafts:
            draft.lane.adopt(draft)
            self._noted[draft.lane.partition] = acknowledged[draft.lane.partition]
            if draft.said:
                self.outboxes[draft.lane.partition].add([(draft.lane.row, draft.said)])
        self._count_down(drafts)
        self._note_stuck(fold)
        return sum(len(draft.deliveries) for draft in drafts)

    def _do_again(self, drafts: Sequence[Draft], error: Exception) -> None:
        self._telemetry.again(type(error).__name__)
        if isinstance(error, StaleEpoch):
            logger().warning("stale_epoch", partitions=sorted(error.partitions))
            self._owned.lose(error.partitions)
        elif isinstance(error, BatchRefused):
            records = sum(len(draft.deliveries) for draft in drafts)
            if records > 1:
                # One of them is refused; go on one by one until it has shown itself.
                self._one_by_one = {each.lane.partition: len(each.deliveries) for each in drafts if each.deliveries}
            logger().warning("batch_refused", records=records, error=str(error))

    def _count_down(self, drafts: Sequence[Draft]) -> None:
        """A lane that was heard one by one is the last in turn now, or is heard as all others."""
        for draft in drafts:
            left = self._one_by_one.pop(draft.lane.partition, 0) - 1
            if left > 0:
                self._one_by_one[draft.lane.partition] = left

    def _note_stuck(self, fold: Fold) -> None:
        """A deadline whose decision fails would come again with every poll: leave it until the next start."""
        for one, _ in fold.put_aside:
            record = one.delivery.record
            if record.topic.endswith(DUE):
                self._stuck.add((record.partition, one.key))

    async def _look_after(self) -> None:
        """Now and then: delete outbox rows that are acknowledged and old enough, and tell how far was heard."""
        now = self._now()
        early = _is_to_come(self._look_after_at, now, LOOK_AFTER_SECONDS) and not self._owned.has_to_tell
        if early or not (self.lanes or self.halted):
            return
        self._look_after_at = now + timedelta(seconds=LOOK_AFTER_SECONDS)
        self._owned.look_astray()
        await self._owned.look_at_halted(now)
        await self._acknowledge()
        before = now - timedelta(seconds=self._settings.outbox_keep_seconds)
        await self._store.forget_said({p: outbox.acknowledged for p, outbox in self.outboxes.items()}, before)
        heard = {(topic, p): position for p, lane in self.lanes.items() for topic, position in lane.positions.items()}
        for (topic, partition), records in (await self._log.report(heard)).items():
            self._telemetry.lag(topic, partition, records)

    async def _acknowledge(self) -> None:
        """Write down what the log has acknowledged since the lanes' last batches."""
        rows = {p: (lane.epoch, self.outboxes[p].acknowledged) for p, lane in self.lanes.items() if p in self.outboxes}
        news = {p: noted for p, noted in rows.items() if noted[1] > self._noted.get(p, 0)}
        if news:
            await self._store.acknowledge(news)
            self._noted.update((p, row) for p, (_, row) in news.items())

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return


def _is_to_come(at: datetime, now: datetime, within_seconds: float) -> bool:
    """Whether `at` is still ahead. A time further ahead than it was ever set is of a clock that was set back since."""
    return timedelta() < at - now <= timedelta(seconds=within_seconds)


def _any_heard(drafts: Sequence[Draft]) -> bool:
    return any(draft.deliveries for draft in drafts)
