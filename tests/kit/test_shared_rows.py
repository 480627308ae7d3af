"""Rows that several instances change at once: what they add adds up, and they wait for each other in one order."""

import asyncio
import random
from collections.abc import Sequence

from msgspec.structs import replace

from streams.kit.lane import Lane
from streams.kit.postgres import PostgresStore
from streams.kit.store import Deadlocked, Move
from tests.kit.batches import (
    NewStore,
    changed,
    commit,
    hears,
    taken,
    waits_for_a_lock,
)
from tests.kit.conftest import Ask
from tests.kit.counter_events import Count, Total
from tests.waiting import eventually


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
    await eventually(lambda: waits_for_a_lock(ask))
    go_on[1].set()
    outcomes = await asyncio.gather(first, second, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes if outcome] == [Deadlocked]
    await add_ten_to_both([bool(outcome) for outcome in outcomes].index(True))
    assert await ask("SELECT name, amount FROM totals ORDER BY name") == [("new", 20), ("old", 21)]
