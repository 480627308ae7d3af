"""Batches on a real database, made by hand: a lane taken over, a draft of it, changes of rows."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from streams.kit import envelope
from streams.kit.events import State
from streams.kit.lane import Draft, Lane
from streams.kit.log import Record
from streams.kit.postgres import PostgresStore
from streams.kit.rows import Changes, Rows
from streams.kit.store import Move
from tests.kit.conftest import Ask

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


async def waits_for_a_lock(ask: Ask) -> bool:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool(await ask(waiting))
