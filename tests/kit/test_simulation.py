"""The worker's protocol under seeded trouble: kills, freezes, rebalances, lost acknowledgements, unknown commits.

`SEEDS=200 pytest tests/kit/test_simulation.py` tries more. A failing seed is printed; the same seed fails again.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any

import pytest

from streams.kit import clock, lane, parking, rows, worker
from streams.kit.clock import Verdict
from streams.kit.store import Move
from tests.kit import simulated
from tests.kit.planting import BROKEN
from tests.kit.simulation import Outcome, Simulation

#: Within so many seeds each planted bug is found; without one all of them are clean.
SEEDS_TO_FIND_A_BUG = 12
SEEDS = int(os.environ.get("SEEDS", SEEDS_TO_FIND_A_BUG))
FIRST = int(os.environ.get("SEED", "0"))
#: So many of them meet every fault.
QUICK = 3


@cache
def run(seed: int) -> Outcome:
    return Simulation(seed).run()


@pytest.mark.parametrize(
    "seed", [pytest.param(FIRST + each, marks=[pytest.mark.slow] if each >= QUICK else []) for each in range(SEEDS)]
)
def test_every_fact_is_heard_once_in_order_and_after_its_causes_whatever_breaks(seed: int) -> None:
    assert run(seed).heard > 0


def test_the_faults_of_the_simulation_happen() -> None:
    happened: dict[str, int] = {}
    for seed in range(QUICK):
        for what, times in run(seed).happened.items():
            happened[what] = happened.get(what, 0) + times

    faults = {"killed", "frozen", "append_lost", "commit_unknown", "commit_failed", "world_away", "unanswered"}
    assert happened.keys() >= faults


def test_the_same_seed_is_the_same_run() -> None:
    assert Simulation(2).run().story == run(2).story


# -- planted bugs: each breaks one promise of the worker, and the simulation must see it -------------------------------


def no_causal_wait(patch: pytest.MonkeyPatch) -> None:
    right = clock.judge

    def judge(*known: Any) -> Verdict:
        verdict = right(*known)
        return Verdict.NEXT if verdict is Verdict.EARLY else verdict

    patch.setattr(clock, "judge", judge)


def no_deduplication(patch: pytest.MonkeyPatch) -> None:
    right = clock.judge

    def judge(*known: Any) -> Verdict:
        verdict = right(*known)
        return Verdict.NEXT if verdict is Verdict.KNOWN else verdict

    patch.setattr(clock, "judge", judge)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    right = simulated.Database.commit

    def commit(self: simulated.Database, moves: Sequence[Move], changes: Any) -> None:
        for move in moves:
            move.draft.lane.epoch = self.lanes[move.draft.lane.partition].epoch
        right(self, moves, changes)

    patch.setattr(simulated.Database, "commit", commit)


def clock_not_saved(patch: pytest.MonkeyPatch) -> None:
    right = simulated.Database.commit

    def commit(self: simulated.Database, moves: Sequence[Move], changes: Any) -> None:
        before = [dict(each.clock) for each in self.lanes]
        right(self, moves, changes)
        for move in moves:
            number = move.draft.lane.partition
            own = move.draft.lane.me
            self.lanes[number].clock = {**before[number], own: self.lanes[number].clock.get(own, 0)}

    patch.setattr(simulated.Database, "commit", commit)


def own_sequence_not_saved(patch: pytest.MonkeyPatch) -> None:
    right = simulated.Database.commit

    def commit(self: simulated.Database, moves: Sequence[Move], changes: Any) -> None:
        before = [dict(each.clock) for each in self.lanes]
        right(self, moves, changes)
        for move in moves:
            number, own = move.draft.lane.partition, move.draft.lane.me
            self.lanes[number].clock = {**self.lanes[number].clock, own: before[number].get(own, 0)}

    patch.setattr(simulated.Database, "commit", commit)


def acknowledged_when_committed(patch: pytest.MonkeyPatch) -> None:
    """The outbox row counts as said when it is committed: who dies before sending it loses it."""
    right = simulated.Database.commit

    def commit(self: simulated.Database, moves: Sequence[Move], changes: Any) -> None:
        right(self, [move._replace(acknowledged=move.draft.lane.row + 1) for move in moves], changes)

    patch.setattr(simulated.Database, "commit", commit)


def outbox_said_backwards_at_takeover(patch: pytest.MonkeyPatch) -> None:
    right = simulated.SimulatedStore.take_over

    async def take_over(self: simulated.SimulatedStore, partition: int, partition_count: int) -> Any:
        holding, unsaid = await right(self, partition, partition_count)
        return holding, unsaid[::-1]

    patch.setattr(simulated.SimulatedStore, "take_over", take_over)


def outbox_not_said_at_takeover(patch: pytest.MonkeyPatch) -> None:
    right = simulated.SimulatedStore.take_over

    async def take_over(self: simulated.SimulatedStore, partition: int, partition_count: int) -> Any:
        holding, _ = await right(self, partition, partition_count)
        return holding, []

    patch.setattr(simulated.SimulatedStore, "take_over", take_over)


def read_before_raising_the_epoch(patch: pytest.MonkeyPatch) -> None:
    right = simulated.SimulatedStore.take_over

    async def take_over(self: simulated.SimulatedStore, partition: int, partition_count: int) -> Any:
        early = self._database.lanes[partition]
        known = early.positions, early.clock, early.row, early.acknowledged
        await self._host.takes(0.5)
        holding, unsaid = await right(self, partition, partition_count)
        positions, known_clock, row, acknowledged = known
        return lane.Holding(holding.epoch, positions, known_clock, row, acknowledged), unsaid

    patch.setattr(simulated.SimulatedStore, "take_over", take_over)


def failed_append_is_not_repeated(patch: pytest.MonkeyPatch) -> None:
    right = simulated.SimulatedLog.append

    async def append(self: simulated.SimulatedLog, partition: int, facts: Any) -> None:
        try:
            await right(self, partition, facts)
        except OSError:
            return

    patch.setattr(simulated.SimulatedLog, "append", append)


def unknown_commit_taken_for_none(patch: pytest.MonkeyPatch) -> None:
    """After a lost answer the worker goes on from memory, as if nothing had been committed."""

    async def go_on(self: worker.Worker, error: Exception) -> None:
        self.away = str(error)

    patch.setattr(worker.Worker, "_wait_for_database", go_on)


def transitive_knowledge_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A fact tells nothing of what its speaker had heard."""
    right = lane.Draft.spoken_clock

    def spoken_clock(self: lane.Draft) -> Mapping[str, int]:
        own = self.lane.me
        return {who: known for who, known in right(self).items() if who == own}

    patch.setattr(lane.Draft, "spoken_clock", spoken_clock)


def nobody_waits_behind_a_parked_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parking.Parking, "holds", lambda self, key: False)


def parked_records_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The clock moves over a record that is parked, and then it is not written down."""
    patch.setattr(parking.Parking, "add", lambda self, *known, **more: None)


def rows_remembered_of_a_lane_that_was_lost(patch: pytest.MonkeyPatch) -> None:
    """Who takes a lane again goes on with its rows as they were before somebody else had it."""
    patch.setattr(rows.Remembered, "forget", lambda self, partition: None)


BUGS: Collection[Callable[[pytest.MonkeyPatch], None]] = (
    no_causal_wait,
    no_deduplication,
    no_fence,
    clock_not_saved,
    own_sequence_not_saved,
    acknowledged_when_committed,
    outbox_said_backwards_at_takeover,
    outbox_not_said_at_takeover,
    read_before_raising_the_epoch,
    failed_append_is_not_repeated,
    unknown_commit_taken_for_none,
    transitive_knowledge_forgotten,
    nobody_waits_behind_a_parked_record,
    parked_records_forgotten,
    rows_remembered_of_a_lane_that_was_lost,
)


@pytest.mark.slow
@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    found = any(_breaks(seed) for seed in range(SEEDS_TO_FIND_A_BUG))

    assert found, f"{plant.__name__} was not found in {SEEDS_TO_FIND_A_BUG} seeds"


def _breaks(seed: int) -> bool:
    try:
        outcome: Outcome = Simulation(seed).run()
    except BROKEN:
        return True
    return outcome.heard == 0
