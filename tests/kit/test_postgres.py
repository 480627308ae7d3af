"""The store on a real PostgreSQL: what it keeps together, whom it lets commit, and what it does in trouble."""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.kit import envelope
from streams.kit.errors import PartitionsChanged, StaleEpoch
from streams.kit.events import State
from streams.kit.lane import Draft, Lane
from streams.kit.log import Record
from streams.kit.postgres import PostgresStore
from streams.kit.rows import Changes, Rows
from streams.kit.store import BatchRefused, DatabaseAway, Deadlocked, Move
from tests.kit.conftest import Ask
from tests.kit.counter import Count, Entry, Total
from tests.waiting import eventually

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PARTITIONS = 4
CAUSE = envelope.of_request("r", 0, 0, ())
NewStore = Callable[..., PostgresStore]
LANES = "SELECT partition, epoch, positions, clock, outbox_row, acknowledged FROM lanes ORDER BY partition"


async def taken(store: PostgresStore, partition: int = 0) -> Lane:
    """The lane, taken over by this store."""
    holding, _ = await store.take_over(partition, PARTITIONS)
    return Lane("me", partition, ("left",), holding)


def hears(lane: Lane, count: int = 1, says: Sequence[bytes] = ()) -> Draft:
    """A batch that hears the lane's next facts and says something."""
    for _ in range(count):
        sequence = lane.clock.get("left", 0) + lane.held_back() + 1
        headers = envelope.write("left", lane.partition, sequence, "Told", {}, CAUSE)
        lane.push(Record("left", lane.partition, sequence - 1, 0, b"k", b"v", headers))
    draft = lane.order(count)
    for delivery in draft.deliveries:
        draft.hear(delivery)
    for value in says:
        draft.say("Said", "k", value, 5, CAUSE)
    return draft


def changed(*rows: State, before: Sequence[State] = ()) -> list[Changes]:
    """What makes `rows` out of `before`, or out of nothing."""
    changes = Rows()
    for row in rows:
        known = [each for each in before if type(each) is type(row) and each.row_key == row.row_key]
        changes.give(type(row), known, [row.row_key])
        changes.put(row)
    return changes.changes()


async def commit(store: PostgresStore, draft: Draft, *rows: State, acknowledged: int = 0) -> None:
    async with store.transaction([draft]) as transaction:
        await transaction.commit([Move(draft, acknowledged)], changed(*rows))
    draft.lane.adopt(draft)


async def everything(ask: Ask) -> list[Any]:
    """All that a batch could change."""
    tables = (LANES, "SELECT * FROM outbox", "SELECT * FROM counts", "SELECT * FROM totals", "SELECT * FROM parked")
    return [await ask(table) for table in tables]


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
        await eventually(lambda: _waits_for_a_lock(ask), what="the successor waits for the lane")
        await transaction.commit([Move(draft, 0)], [])
    holding, unsaid = await taking
    assert (holding.epoch, holding.positions, holding.row) == (2, {"left": 2}, 1)
    assert [number for number, _ in unsaid] == [1]


async def _waits_for_a_lock(ask: Ask) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await ask(waiting))


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
    with pytest.raises(PartitionsChanged, match="has 8 partitions, 4 are expected"):
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


# -- shared rows -------------------------------------------------------------------------------------------------------


async def add_shared(store: PostgresStore, lane: Lane, names: Sequence[str]) -> None:
    """One batch that adds 1 to each of the shared rows, as the worker does it."""
    draft = hears(lane)
    async with store.transaction([draft]) as transaction:
        await transaction.load({Count: ["own"]})
        before = [row for row in (await transaction.load({Total: names}))[Total] if isinstance(row, Total)]
        after = {name: Total(name=name) for name in names} | {row.name: row for row in before}
        rows = [replace(row, amount=row.amount + 1) for row in after.values()]
        await transaction.commit([Move(draft, 0)], changed(*rows, before=before))
    lane.adopt(draft)


async def test_what_two_instances_add_to_a_row_that_neither_found_adds_up(new_store: NewStore, ask: Ask) -> None:
    stores = [new_store(), new_store()]
    drafts = [hears(await taken(store, number)) for number, store in enumerate(stores)]
    async with stores[0].transaction(drafts[:1]) as first, stores[1].transaction(drafts[1:]) as second:
        assert await first.load({Total: ["all"]}) == {Total: []}
        assert await second.load({Total: ["all"]}) == {Total: []}
        await first.commit([Move(drafts[0], 0)], changed(Total(name="all", amount=5)))
        await second.commit([Move(drafts[1], 0)], changed(Total(name="all", amount=-2)))
    assert await ask("SELECT amount FROM totals") == [(3,)]


async def test_instances_that_lock_the_same_rows_in_any_order_wait_instead_of_deadlocking(
    new_store: NewStore, ask: Ask
) -> None:
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await ask(deadlocks)
    rng = random.Random(1)
    names = [f"t{number}" for number in range(6)]
    await commit(new_store(), hears(await taken(new_store())), *(Total(name=name, amount=1) for name in names))
    rounds = 25

    async def work(partition: int) -> list[str]:
        store = new_store()
        lane = await taken(store, partition)
        done: list[str] = []
        for _ in range(rounds):
            some = rng.sample(names, 4)
            await add_shared(store, lane, some)
            done += some
        return done

    done = [name for each in await asyncio.gather(*(work(partition) for partition in range(4))) for name in each]
    totals: dict[str, int] = dict(await ask("SELECT name, amount FROM totals"))
    assert totals == {name: done.count(name) + 1 for name in names}
    assert len(done) == 4 * 4 * rounds
    assert await ask(deadlocks) == before


async def test_of_two_batches_that_wait_for_rows_the_other_is_making_one_is_ended_and_can_be_done_again(
    new_store: NewStore, ask: Ask
) -> None:
    stores = [new_store() for _ in range(3)]
    drafts = [hears(await taken(store, number)) for number, store in enumerate(stores)]
    loaded, go_on = [asyncio.Event(), asyncio.Event()], [asyncio.Event(), asyncio.Event()]

    async def add_ten_to_both(number: int) -> None:
        async with stores[number].transaction([drafts[number]]) as transaction:
            before = (await transaction.load({Total: ["new", "old"]}))[Total]
            loaded[number].set()
            await go_on[number].wait()
            known = {row.row_key: row for row in before if isinstance(row, Total)}
            rows = [known.get(name, Total(name=name)) for name in ("new", "old")]
            added = changed(*(replace(row, amount=row.amount + 10) for row in rows), before=before)
            await transaction.commit([Move(drafts[number], 0)], added)

    first = asyncio.create_task(add_ten_to_both(0))
    await loaded[0].wait()
    await commit(stores[2], drafts[2], Total(name="old", amount=1))
    second = asyncio.create_task(add_ten_to_both(1))
    await loaded[1].wait()
    # The first makes the new row and waits for the old one, which the second has locked; then the second wants the new.
    go_on[0].set()
    await eventually(lambda: _waits_for_a_lock(ask))
    go_on[1].set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes if outcome] == [Deadlocked]
    await add_ten_to_both([bool(outcome) for outcome in outcomes].index(True))
    assert await ask("SELECT name, amount FROM totals ORDER BY name") == [("new", 20), ("old", 21)]


# -- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [Count(counter="x", note="zero \0"), Count(counter="x\0", total=1), Count(counter="x", total=2**63)],
    ids=["a zero character", "a zero character in the key", "a number too large"],
)
async def test_a_value_that_the_database_refuses_is_told_and_changes_nothing(
    new_store: NewStore, ask: Ask, row: Count
) -> None:
    store = new_store()
    lane = await taken(store)
    before = await everything(ask)
    draft = hears(lane, says=[b"a"])
    with pytest.raises(BatchRefused):
        await commit(store, draft, Count(counter="good", total=1), row)
    assert await everything(ask) == before
    lane.put_back(draft)
    await commit(store, lane.order(10), Count(counter="good", total=1))
    assert await ask("SELECT counter FROM counts") == [("good",)]


async def test_a_key_that_the_database_refuses_is_told_when_it_is_loaded(new_store: NewStore) -> None:
    store = new_store()
    draft = hears(await taken(store))
    with pytest.raises(BatchRefused):
        await store.load({Count: ["a\0"]})
    with pytest.raises(BatchRefused):
        async with store.transaction([draft]) as transaction:
            await transaction.load({Total: ["a\0"]})
    await commit(store, draft, Count(counter="x", total=1))


# -- trouble -----------------------------------------------------------------------------------------------------------


async def end_connections(ask: Ask) -> None:
    [(ended,)] = await ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'pavane-worker'"
    )
    assert ended > 0, "no connection was there to end"


async def test_a_connection_that_ended_between_batches_is_told_and_opened_again(new_store: NewStore, ask: Ask) -> None:
    store = new_store()
    lane = await taken(store)
    before = await everything(ask)
    await end_connections(ask)
    with pytest.raises(DatabaseAway, match="the database does not answer"):
        await commit(store, hears(lane, says=[b"a"]), Count(counter="x", total=1))
    assert await everything(ask) == before
    await commit(store, hears(await taken(store), says=[b"a"]), Count(counter="x", total=1))
    assert await ask("SELECT counter FROM counts") == [("x",)]


async def test_a_connection_that_ends_within_a_transaction_leaves_nothing_of_it(new_store: NewStore, ask: Ask) -> None:
    store = new_store()
    draft = hears(await taken(store), says=[b"a"])
    before = await everything(ask)
    with pytest.raises(DatabaseAway):
        async with store.transaction([draft]) as transaction:
            await transaction.load({Total: ["all"]})
            await end_connections(ask)
            await transaction.commit([Move(draft, 0)], changed(Total(name="all", amount=1)))
    assert await everything(ask) == before
    assert (await taken(store)).epoch == 2


async def test_a_connection_that_ends_while_a_commit_is_under_way_leaves_all_of_it_or_nothing(
    new_store: NewStore, ask: Ask
) -> None:
    store = new_store()
    lane = await taken(store)
    await commit(store, hears(lane), Count(counter="x", total=1))
    before = await everything(ask)
    await ask("BEGIN")
    await ask("SELECT 1 FROM counts FOR UPDATE")
    committing = asyncio.create_task(commit(store, hears(lane, says=[b"a"]), Count(counter="x", total=2)))
    await eventually(lambda: _waits_for_a_lock(ask), what="the commit waits for the row")
    await end_connections(ask)
    with pytest.raises(DatabaseAway):
        await committing
    await ask("COMMIT")
    assert await everything(ask) == before


async def test_a_server_that_is_not_there_is_told(database: str) -> None:
    host, _, rest = database.rpartition("@")[2].partition(":")
    store = PostgresStore(database.replace(f"{host}:{rest.partition('/')[0]}", f"{host}:1"), 8.0)
    with pytest.raises(DatabaseAway, match="the database does not answer"):
        await store.take_over(0, PARTITIONS)


@pytest.mark.parametrize("has_locked", [True, False], ids=["with locks", "before the first question"])
async def test_an_owner_frozen_within_its_transaction_cannot_hold_up_its_successor(
    new_store: NewStore, ask: Ask, has_locked: bool
) -> None:
    frozen, successor = new_store(transaction_seconds=0.4), new_store()
    draft = hears(await taken(frozen), says=[b"a"])
    with pytest.raises(DatabaseAway if has_locked else StaleEpoch):
        async with frozen.transaction([draft]) as transaction:
            if has_locked:
                await transaction.load({Total: ["all"]})
            # Nothing more comes from the first owner until the second one has the lane.
            taking = asyncio.create_task(successor.take_over(0, PARTITIONS))
            if has_locked:
                await eventually(lambda: _waits_for_a_lock(ask), what="the successor waits for the lane")
            holding, _ = await asyncio.wait_for(taking, 10)
            await transaction.commit([Move(draft, 0)], changed(Count(counter="x", total=1)))
    assert holding.epoch == 2
    assert await ask("SELECT * FROM counts") == []


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
