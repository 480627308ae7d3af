"""One batch: the records of several lanes become facts and rows, in one transaction or not at all.

A service with shared rows folds inside the transaction, under their locks. All others fold before it, since only the
owner of a lane changes the lane's rows: so effects are asked for while nothing is locked, and the transaction is one
round trip.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from msgspec.structs import replace

from streams.kit.codec import Codec
from streams.kit.errors import PavaneError, Then, Undecidable, WorldUnavailable
from streams.kit.events import Answer, Effect, milliseconds
from streams.kit.faultpoints import reached
from streams.kit.fold import Asked, Fold, wanted
from streams.kit.lane import Draft
from streams.kit.logs import logger
from streams.kit.opening import Opened, Opener, PartitionOf
from streams.kit.protecting import Protector
from streams.kit.rows import Remembered, RowMissing, Rows, Wanted
from streams.kit.service import Service, World
from streams.kit.store import BatchRefused, Found, Move, Store, Transaction
from streams.kit.telemetry import Telemetry
from streams.kit.writers import PATIENCE_SECONDS

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
LAST_MOMENT_SECONDS = 1.0


class Abandoned(PavaneError):
    """The lanes are being let go of while the world has not answered: the batch is dropped, nothing was changed."""

    then = Then.AGAIN


class Loads(Protocol):
    """Anything that loads rows: the store, or a transaction of it."""

    async def load(self, wanted: Wanted) -> Found: ...


class Batches:
    """Runs the batches of one service. `letting_go` interrupts a wait for the outside world."""

    def __init__(
        self,
        service: Service,
        codec: Codec,
        store: Store,
        world: World | None,
        partition_of: PartitionOf,
        now: Callable[[], datetime],
        protector: Protector | None = None,
    ) -> None:
        self._service = service
        self._codec = codec
        self._store = store
        self._world = world
        self._opener = Opener(service, codec, partition_of)
        self._protector = protector
        self._now = now
        self._refused: dict[str, Undecidable] = {}
        self._remembered = Remembered()
        self._telemetry = Telemetry(service.name)
        self.letting_go = asyncio.Event()

    async def run(self, drafts: Sequence[Draft], acknowledged: Mapping[int, int]) -> Fold:
        """Hear the drafts' deliveries and commit. Whatever is raised, nothing was changed (or, for `DatabaseAway`, the
        lanes must be taken again to know)."""
        values = (delivery.record.value for draft in drafts for delivery in draft.deliveries)
        await self._codec.learn(values, PATIENCE_SECONDS)
        opened = [(draft, await self._open(draft)) for draft in drafts]
        home = _homes(opened)
        moves = [Move(draft, acknowledged[draft.lane.partition]) for draft in drafts]
        rows = Rows()
        try:
            if self._service.shares:
                async with self._store.transaction(drafts) as transaction:
                    await self._load_shared(transaction, rows, opened, home)
                    fold = await self._fold(opened, rows, transaction, home)
                    await self._commit(transaction, moves, rows)
            else:
                await self._load(self._store, rows, opened, home)
                fold = await self._fold(opened, rows, self._store, home)
                async with self._store.transaction(drafts) as transaction:
                    await self._commit(transaction, moves, rows)
        except BatchRefused as refusal:
            self._note_refusal(drafts, refusal)
            raise
        for row in rows.own():
            if row.row_key in home:
                self._remembered.note(home[row.row_key], row)
        self._report(drafts, fold)
        return fold

    def forget(self, partition: int) -> None:
        """The lane is not held any more."""
        self._remembered.forget(partition)

    # -- the steps ---------------------------------------------------------------------------------------------------

    async def _open(self, draft: Draft) -> list[Opened]:
        opened = self._opener.open(draft)
        if self._protector is not None:
            opened = await self._protector.protect(opened)
        if not self._refused:
            return opened
        return [
            one if (problem := self._refused.get(one.delivery.envelope.id)) is None
            else replace(one, event=None, problem=problem)
            for one in opened
        ]

    async def _load(self, loads: Loads, rows: Rows, opened: "Opening", home: "Homes") -> None:
        with self._telemetry.step("load"):
            everything = [one for _, each in opened for one in each]
            await self._give(loads, rows, wanted(self._service, everything, shared=False, rows=rows), home)

    async def _load_shared(
        self, transaction: Transaction, rows: Rows, opened: "Opening", home: "Homes"
    ) -> None:
        # Locks are taken in one order everywhere: lanes, own rows (never contended), shared rows by key.
        await self._load(transaction, rows, opened, home)
        with self._telemetry.step("lock"):
            everything = [one for _, each in opened for one in each]
            await self._give(transaction, rows, wanted(self._service, everything, shared=True, rows=rows), home)

    async def _give(self, loads: Loads, rows: Rows, needed: Wanted, home: "Homes") -> None:
        """Load what is not in memory yet. Rows that nothing was ever said about begin in the lane of their record."""
        for state, keys in needed.items():
            known = (self._remembered.find(home[key], state, key) for key in keys if key in home)
            rows.give(state, [row for row in known if row is not None], ())
        missing = rows.missing(needed)
        found = await loads.load(missing) if missing else {}
        for state, keys in missing.items():
            rows.give(state, found.get(state, ()), keys, home)

    async def _fold(self, opened: "Opening", rows: Rows, loads: Loads, home: "Homes") -> Fold:
        """Fold until nothing is missing and nothing is asked any more. Folding again from the start is right because
        decisions are pure; answers are kept, so that nothing is asked twice."""
        answers: dict[Asked, Answer] = {}
        while True:
            rows.reset()
            # Each time anew: what is to be asked again after a while is so from when the world answered, not before.
            fold = Fold(self._service, self._codec, rows, answers, milliseconds(self._now()))
            try:
                with self._telemetry.step("fold"):
                    for draft, each in opened:
                        fold.lane(draft, each)
            except RowMissing as missing:
                await self._give(loads, rows, {missing.state: [missing.key]}, home)
                continue
            if not fold.asked:
                reached("after-fold")
                return fold
            reached("before-ask")
            with self._telemetry.step("ask"):
                asked = sorted(fold.asked, key=fold.turns.__getitem__)
                answers.update(zip(asked, await self._ask([fold.asked[each] for each in asked]), strict=True))
            reached("after-ask")

    async def _ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        """Ask until the world answers, under the same keys each time. Raises `Abandoned` when the lanes must go."""
        assert self._world is not None, f"{self._service.name} asks effects without a world"
        pause = FIRST_PAUSE_SECONDS
        for name, count in Counter(type(effect).__name__ for effect in effects).items():
            self._telemetry.asked(name, count)
        while True:
            try:
                return await self._answers(self._world, effects)
            except WorldUnavailable as error:
                logger().warning("world_away", effects=len(effects), error=str(error), again_in_seconds=round(pause, 2))
            try:
                await asyncio.wait_for(self.letting_go.wait(), pause * random.uniform(0.5, 1.0))
                raise Abandoned("the outside world does not answer, and the partitions are wanted elsewhere")
            except TimeoutError:
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _answers(self, world: World, effects: Sequence[Effect]) -> Sequence[Answer]:
        """One question to the world. When the lanes must go it gets a moment more; a repeat is safe under the keys."""
        asking = asyncio.ensure_future(world.ask(effects))
        going = asyncio.ensure_future(self.letting_go.wait())
        try:
            await asyncio.wait({asking, going}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                await asyncio.wait({asking}, timeout=LAST_MOMENT_SECONDS)
            if not asking.done():
                raise Abandoned("the outside world takes long to answer, and the partitions are wanted elsewhere")
            return asking.result()
        finally:
            asking.cancel()
            going.cancel()

    async def _commit(self, transaction: Transaction, moves: Sequence[Move], rows: Rows) -> None:
        with self._telemetry.step("commit"):
            await transaction.commit(moves, rows.changes())

    # -- afterwards --------------------------------------------------------------------------------------------------

    def _note_refusal(self, drafts: Sequence[Draft], refusal: BatchRefused) -> None:
        """The database refused a value. Of a batch of one record it is known whose: that goes to the dead letters."""
        deliveries = [delivery for draft in drafts for delivery in draft.deliveries]
        if len(deliveries) == 1:
            self._refused[deliveries[0].envelope.id] = Undecidable(
                f"the database refuses what follows from it: {refusal}"
            )

    def _report(self, drafts: Sequence[Draft], fold: Fold) -> None:
        records = sum(len(draft.deliveries) for draft in drafts)
        self._telemetry.batch_records.observe(records)
        self._telemetry.heard.inc(records)
        self._telemetry.known.inc(sum(draft.passed_over for draft in drafts))
        for name, facts in Counter(name for draft in drafts for name in draft.names).items():
            self._telemetry.fact_said(name, facts)
        self._telemetry.parked(fold.parked, len(fold.released))
        for one, error in fold.failed_again:
            self._refused.pop(one.delivery.envelope.id, None)
            logger().warning("parked_again", key=one.key, reason=type(error).__name__, error=str(error))
        for one, error in fold.put_aside:
            self._refused.pop(one.delivery.envelope.id, None)
            self._telemetry.put_aside(type(error).__name__)
            where = f"{one.delivery.record.topic}/{one.delivery.record.partition}/{one.delivery.record.offset}"
            logger().error("put_aside", record=where, key=one.key, reason=type(error).__name__, error=str(error))


Opening = Sequence[tuple[Draft, Sequence[Opened]]]
Homes = Mapping[str, int]
"""In which lane each row is that a record of the batch is about."""


def _homes(opened: Opening) -> Homes:
    """Raises `BatchRefused` for a row that records of two lanes name. It is one lane's own, and a record of another
    says so under a wrong key: heard one by one, each finds the row as the database has it."""
    homes: dict[str, int] = {}
    for draft, each in opened:
        for one in each:
            mine = draft.lane.partition
            if one.event is not None and (first := homes.setdefault(one.row, mine)) != mine:
                raise BatchRefused(f"records of lanes {first} and {mine} name the row {one.row}")
    return homes
