"""A database that refuses values, ends connections, is not there, or waits for an owner that froze."""

import asyncio
import os
import signal

import psutil
import pytest
from structlog.testing import capture_logs

from streams.kit import postgres
from streams.kit.errors import StaleEpoch
from streams.kit.postgres import PostgresStore
from streams.kit.store import BatchRefused, DatabaseAway, Move
from tests.kit.batches import (
    PARTITIONS,
    NewStore,
    changed,
    commit,
    everything,
    hears,
    taken,
    waits_for_a_lock,
)
from tests.kit.conftest import Ask
from tests.kit.counter_events import Count, Total
from tests.waiting import eventually

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
    await eventually(lambda: waits_for_a_lock(ask), what="the commit waits for the row")
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
    frozen, successor = new_store(transaction_seconds=2.0), new_store()
    draft = hears(await taken(frozen), says=[b"a"])
    await taken(successor, 1)
    with pytest.raises(DatabaseAway if has_locked else StaleEpoch):
        async with frozen.transaction([draft]) as transaction:
            if has_locked:
                await transaction.load({Total: ["all"]})
            # Nothing more comes from the first owner until the second one has the lane.
            taking = asyncio.create_task(successor.take_over(0, PARTITIONS))
            if has_locked:
                await eventually(lambda: waits_for_a_lock(ask), what="the successor waits for the lane")
            holding, _ = await asyncio.wait_for(taking, 10)
            await transaction.commit([Move(draft, 0)], changed(Count(counter="x", total=1)))
    assert holding.epoch == 2
    assert await ask("SELECT * FROM counts") == []


async def test_a_server_that_stands_still_is_hung_up_on_and_asked_anew_when_it_is_there(
    new_store: NewStore, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stays alive: no timeout of its own, nor of the network, would ever end the wait."""
    monkeypatch.setattr(postgres, "ANSWER_LATE_SECONDS", 0.5)
    store = new_store(transaction_seconds=0.5)
    lane = await taken(store)
    [(backend,)] = await ask("SELECT pid FROM pg_stat_activity WHERE application_name = 'pavane-worker'")
    os.kill(backend, signal.SIGSTOP)
    try:
        with capture_logs() as lines, pytest.raises(DatabaseAway):
            async with asyncio.timeout(20):
                await commit(store, hears(lane, says=[b"a"]), Count(counter="x", total=1))
        assert [line["event"] for line in lines] == ["database_hung_up"]
        assert psutil.Process(backend).status() == psutil.STATUS_STOPPED
        other = await taken(store)
    finally:
        os.kill(backend, signal.SIGCONT)
    await commit(store, hears(other, says=[b"b"]), Count(counter="y", total=1))
    assert await ask("SELECT counter FROM counts") == [("y",)], "the old epoch commits nothing when it wakes up"
