"""The store on a real PostgreSQL: what it keeps together, whom it lets commit, what it gives back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from streams.kit import envelope, postgres, statements
from streams.kit.errors import PartitionsChanged, StaleEpoch
from streams.kit.lane import Lane
from streams.kit.postgres import PostgresStore, PostgresTransaction
from streams.kit.store import Move
from tests.kit.batches import (
    LANES,
    NOON,
    PARTITIONS,
    NewStore,
    commit,
    everything,
    hears,
    taken,
    waits_for_a_lock,
)
from tests.kit.conftest import Ask
from tests.kit.counter_events import Count, Entry, Total
from tests.kit.planting import BROKEN, Bug, planted
from tests.waiting import eventually

# -- one transaction ---------------------------------------------------------------------------------------------------


async def test_positions_clock_rows_and_outbox_move_together(new_store: NewStore, ask: Ask) -> None:
    store = new_store()
    lane = await taken(store, 2)
    await commit(store, hears(lane, 3, says=[b"a", b"b"]), Count(counter="x", total=5), Total(name="all", amount=7))

    assert await ask(LANES) == [(2, 1, {"left": 3}, {"left": 3, "me": 2}, 1, 0)]
    assert await ask("SELECT counter, total FROM counts") == [("x", 5)]
    assert await ask("SELECT name, amount FROM totals") == [("all", 7)]
    holding, unsaid = await new_store().take_over(2, PARTITIONS)
    assert (holding.epoch, holding.positions, holding.clock) == (2, {"left": 3}, {"left": 3, "me": 2})
    [(number, facts)] = unsaid
    assert (number, [fact.value for fact in facts]) == (1, [b"a", b"b"])
    assert [envelope.read(fact.headers).sequence for fact in facts] == [1, 2]


async def test_a_transaction_that_is_left_without_a_commit_changes_nothing(new_store: NewStore, ask: Ask) -> None:
    store = new_store()
    lane = await taken(store)
    before = await everything(ask)
    async with store.transaction([hears(lane, says=[b"a"])]) as transaction:
        await transaction.load({Count: ["x"], Total: ["all"]})
    with pytest.raises(RuntimeError):
        async with store.transaction([hears(lane)]) as transaction:
            await transaction.load({Count: ["x"]})
            raise RuntimeError
    assert await everything(ask) == before
    await commit(store, hears(lane), Count(counter="x", total=1))
    assert await ask("SELECT total FROM counts") == [(1,)]


async def test_own_rows_are_replaced_and_append_only_rows_are_written_once(new_store: NewStore, ask: Ask) -> None:
    store = new_store()
    lane = await taken(store)
    await commit(store, hears(lane), Count(counter="x", total=5, note="first"), Entry(entry="e", amount=1))
    await commit(store, hears(lane), Count(counter="x", total=2, note=""), Entry(entry="e", amount=2))
    assert await ask("SELECT total, note FROM counts") == [(2, "")]
    assert await ask("SELECT amount FROM entries") == [(1,)]


async def test_a_column_of_a_later_version_is_left_alone_and_has_its_default_in_new_rows(
    new_store: NewStore, ask: Ask
) -> None:
    store = new_store()
    lane = await taken(store)
    await commit(store, hears(lane), Count(counter="x", total=5))
    await ask("ALTER TABLE counts ADD COLUMN later integer NOT NULL DEFAULT 7")
    await ask("UPDATE counts SET later = 8")
    await commit(store, hears(lane), Count(counter="x", total=6), Count(counter="y", total=1))
    try:
        assert await ask("SELECT counter, total, later FROM counts ORDER BY counter") == [("x", 6, 8), ("y", 1, 7)]
    finally:
        await ask("ALTER TABLE counts DROP COLUMN later")


async def test_rows_are_loaded_by_key_and_those_that_are_not_there_are_left_out(new_store: NewStore) -> None:
    store = new_store()
    row = Count(counter="x", total=2**62, note='ünï \\ "quoted" \' \u2028', due_at=NOON.replace(microsecond=123000))
    await commit(store, hears(await taken(store)), row, Total(name="all", amount=-1))
    assert await store.load({Count: ["y", "x"], Total: ["all", "none"]}) == {
        Count: [row],
        Total: [Total(name="all", amount=-1)],
    }


# -- whom it lets commit -----------------------------------------------------------------------------------------------


async def test_an_earlier_owner_cannot_commit_and_changes_nothing(new_store: NewStore, ask: Ask) -> None:
    old, new = new_store(), new_store()
    lane = await taken(old)
    draft = hears(lane, says=[b"a"])
    await taken(new)
    before = await everything(ask)
    with pytest.raises(StaleEpoch) as stale:
        await commit(old, draft, Count(counter="x", total=5))
    assert stale.value.partitions == {0}
    assert await everything(ask) == before


async def test_of_several_lanes_the_stale_ones_are_named_and_none_is_moved(new_store: NewStore, ask: Ask) -> None:
    old, new = new_store(), new_store()
    drafts = [hears(await taken(old, partition), says=[b"a"]) for partition in range(4)]
    for partition in (3, 1):
        await taken(new, partition)
    before = await everything(ask)
    with pytest.raises(StaleEpoch) as stale:
        async with old.transaction(drafts) as transaction:
            await transaction.commit([Move(draft, 0) for draft in drafts], [])
    assert stale.value.partitions == {1, 3}
    assert await everything(ask) == before


async def test_a_batch_that_reads_shared_rows_is_refused_at_its_first_question(new_store: NewStore) -> None:
    old, new = new_store(), new_store()
    draft = hears(await taken(old))
    await taken(new)
    with pytest.raises(StaleEpoch):
        async with old.transaction([draft]) as transaction:
            await transaction.load({Total: ["all"]})


async def test_who_takes_over_waits_for_the_batch_under_way_and_knows_it(new_store: NewStore, ask: Ask) -> None:
    old, new = new_store(), new_store()
    lane = await taken(old)
    draft = hears(lane, 2, says=[b"a"])
    async with old.transaction([draft]) as transaction:
        await transaction.load({Total: ["all"]})
        taking = asyncio.create_task(new.take_over(0, PARTITIONS))
        await eventually(lambda: waits_for_a_lock(ask), what="the successor waits for the lane")
        await transaction.commit([Move(draft, 0)], [])
    holding, unsaid = await taking
    assert (holding.epoch, holding.positions, holding.row) == (2, {"left": 2}, 1)
    assert [number for number, _ in unsaid] == [1]


async def test_who_takes_over_is_given_what_the_log_may_lack_in_order(new_store: NewStore) -> None:
    store = new_store()
    lane = await taken(store)
    for number in range(1, 5):
        await commit(store, hears(lane, says=[b"%d" % number]), acknowledged=2 if number > 2 else 0)
    holding, unsaid = await new_store().take_over(0, PARTITIONS)
    assert (holding.row, holding.acknowledged) == (4, 2)
    assert [(number, facts[0].value) for number, facts in unsaid] == [(3, b"3"), (4, b"4")]


async def test_another_number_of_partitions_is_refused_and_leaves_the_owner_alone(
    new_store: NewStore, ask: Ask
) -> None:
    await taken(new_store())
    before = await everything(ask)
    with pytest.raises(PartitionsChanged, match="has 8 partitions, but there are 4 lanes: start this service again"):
        await new_store().take_over(0, 8)
    assert await everything(ask) == before


async def test_what_the_log_has_acknowledged_is_noted_for_the_owner_alone(new_store: NewStore, ask: Ask) -> None:
    store = new_store()
    lane = await taken(store)
    await commit(store, hears(lane, says=[b"a"]))
    await store.acknowledge({0: (lane.epoch + 1, 1)})
    assert await ask("SELECT acknowledged FROM lanes") == [(0,)]
    await store.acknowledge({0: (lane.epoch, 1)})
    await store.acknowledge({0: (lane.epoch, 0)})
    assert await ask("SELECT acknowledged FROM lanes") == [(1,)]


# -- deadlines, outbox, parking ------------------------------------------------------------------------------------


async def test_due_rows_are_the_oldest_of_the_partitions_asked_for_up_to_the_limit(new_store: NewStore) -> None:
    store = new_store()

    def row(counter: str, partition: int, seconds: float | None) -> Count:
        due_at = None if seconds is None else NOON + timedelta(seconds=seconds)
        return Count(counter=counter, partition=partition, due_at=due_at)

    rows = [row("late", 0, -1), row("later", 1, -2), row("now", 0, 0), row("soon", 0, 0.001), row("elsewhere", 2, -9)]
    await commit(store, hears(await taken(store)), *rows, row("never", 0, None))
    due = await store.due(Count, [0, 1], NOON, 10)
    assert [each.row_key for each in due] == ["later", "late", "now"]
    assert due[0] == rows[1]
    assert [each.row_key for each in await store.due(Count, [0, 1], NOON, 1)] == ["later"]
    assert await store.due(Count, [3], NOON, 10) == []


async def test_outbox_rows_are_forgotten_once_acknowledged_and_old_enough(new_store: NewStore, ask: Ask) -> None:
    store = new_store()
    for partition in (0, 1):
        lane = await taken(store, partition)
        for _ in range(3):
            await commit(store, hears(lane, says=[b"a"]))
    now = datetime.now(UTC)
    assert await store.forget_said({0: 3, 1: 3}, now - timedelta(minutes=1)) == 0
    assert await store.forget_said({0: 2}, now + timedelta(minutes=1)) == 2
    assert await ask("SELECT partition, number FROM outbox ORDER BY 1, 2") == [(0, 3), (1, 1), (1, 2), (1, 3)]


async def test_parked_records_are_kept_with_the_batch_and_come_back_in_their_turn(
    new_store: NewStore, ask: Ask
) -> None:
    store = new_store()
    lane = await taken(store)
    draft = hears(lane, 3)
    first, second, alone = draft.deliveries
    draft.parking.add(first.record, first.envelope, "k", "Unanswered", "zero \0 and \ud800", retry_at=NOON)
    draft.parking.add(second.record, second.envelope, "k", "Behind", "")
    draft.parking.add(alone.record, alone.envelope, "other", "Refused", "no", holds=False)
    await commit(store, draft)

    holding, _ = await store.take_over(0, PARTITIONS)
    assert (holding.held, holding.parked) == ({"k": 2}, 3)
    assert await store.to_retry([0], NOON - timedelta(seconds=1), 10) == []
    set_back = NOON - timedelta(days=1)
    assert len(await store.to_retry([0], set_back, 10)) == 1, "it was dated by a clock that is right again"
    [(partition, head)] = await store.to_retry([0], NOON, 10)
    assert (partition, head.number, head.key, head.record.value) == (0, 1, "k", b"v")
    assert head.envelope == first.envelope

    lane = Lane("me", 0, ("left",), holding)
    draft = hears(lane)
    draft.parking.release(head)
    await commit(store, draft)
    assert draft.lane.held == {"k": 1}
    [(_, following)] = await store.to_retry([0], datetime.now(UTC) + timedelta(minutes=1), 10)
    assert (following.number, following.reason) == (2, "Behind")
    assert await ask("SELECT number FROM parked ORDER BY 1") == [(2,), (3,)]


async def test_what_calls_off_the_head_of_its_key_is_tried_in_its_place(new_store: NewStore) -> None:
    store = new_store()
    lane = await taken(store)
    draft = hears(lane, 4)
    for each, key in zip(draft.deliveries, ("k", "k", "k", "other"), strict=True):
        reason, retry_at = ("Behind", None) if each is draft.deliveries[1] else ("Unanswered", NOON)
        draft.parking.add(each.record, each.envelope, key, reason, "", retry_at=retry_at)
    await commit(store, draft)

    assert [each.number for _, each in await store.to_retry([0], NOON, 10)] == [3, 4]
    lane.adopt(draft)
    [(_, calls_off), _] = await store.to_retry([0], NOON, 10)
    draft = hears(lane)
    draft.parking.release(calls_off)
    await commit(store, draft)
    assert [each.number for _, each in await store.to_retry([0], NOON, 10)] == [1, 4]


# -- bugs planted in the store -----------------------------------------------------------------------------------------


@planted(
    Bug(
        "the clock is not saved with the batch",
        statements,
        "_moved",
        '"clock": draft.clock',
        '"clock": draft.lane.clock',
        test_positions_clock_rows_and_outbox_move_together,
    ),
    Bug(
        "the outbox is not written with the batch",
        postgres,
        "everything",
        "if move.draft.said]",
        "if False]",
        test_who_takes_over_is_given_what_the_log_may_lack_in_order,
    ),
    Bug(
        "a takeover does not raise the epoch",
        PostgresStore,
        "take_over",
        "epoch = lanes.epoch + 1",
        "epoch = lanes.epoch",
        test_an_earlier_owner_cannot_commit_and_changes_nothing,
    ),
    Bug(
        "a takeover says the outbox out of order",
        PostgresStore,
        "take_over",
        "ORDER BY number",
        "ORDER BY number DESC",
        test_who_takes_over_is_given_what_the_log_may_lack_in_order,
    ),
    Bug(
        "who takes over does not wait for the batch under way",
        PostgresTransaction,
        "load",
        '("SELECT move_lanes(%s)", (self._held.decode(),))',
        '("SELECT %s::text", (self._held.decode(),))',
        test_a_batch_that_reads_shared_rows_is_refused_at_its_first_question,
    ),
    Bug(
        "the outbox is deleted before the log has acknowledged it",
        postgres,
        "_FORGET",
        "AND o.number <= a.number ",
        "",
        test_outbox_rows_are_forgotten_once_acknowledged_and_old_enough,
    ),
    Bug(
        "an earlier owner notes what was acknowledged",
        PostgresStore,
        "acknowledge",
        "AND l.epoch = a.epoch ",
        "",
        test_what_the_log_has_acknowledged_is_noted_for_the_owner_alone,
    ),
    Bug(
        "a parked record is not written down",
        PostgresTransaction,
        "_park",
        "if parking.added:",
        "if False:",
        test_parked_records_are_kept_with_the_batch_and_come_back_in_their_turn,
    ),
)
async def test_a_bug_planted_in_the_store_is_found(
    bug: Bug, new_store: NewStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug.plant(monkeypatch)
    await bug.is_found(new_store=new_store, ask=ask)


async def test_an_epoch_that_is_not_checked_at_commit_is_found(new_store: NewStore, ask: Ask) -> None:
    [(text,)] = await ask("SELECT pg_get_functiondef('move_lanes'::regproc)")
    right = text.replace("%", "%%")
    assert right.count("WHERE l.epoch IS DISTINCT FROM m.epoch") == 1
    await ask(right.replace("WHERE l.epoch IS DISTINCT FROM m.epoch", "WHERE false"))
    try:
        with pytest.raises(BROKEN):
            await test_an_earlier_owner_cannot_commit_and_changes_nothing(new_store, ask)
    finally:
        await ask(right)
