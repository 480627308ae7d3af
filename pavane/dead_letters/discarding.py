"""`discard`: takes one parked record out for good. It is marked, and its lane's owner lets go of it without a decision.

A head goes at once and the next one of its key follows; a record that waits goes when its turn comes. With no worker
running the mark stays: the decision is made, and the service carries it out when it runs.
"""

import asyncio
import time

import msgspec

from pavane.dead_letters.errors import NoSuchItem
from pavane.dead_letters.items import Item
from pavane.dead_letters.redriving import LOOK_SECONDS, PATIENCE_SECONDS, Outcome, Stopped
from pavane.operators.reach import Connection
from streams.kit.lane import DEAD_LETTERS
from streams.kit.log import ToSay
from streams.kit.parking import DISCARDED

_facts = msgspec.msgpack.Decoder(list[ToSay])


async def discard(connection: Connection, item: Item, why: str, patience_seconds: float = PATIENCE_SECONDS) -> Outcome:
    """Mark it, and wait until it is gone. Raises `NoSuchItem` when it was handled meanwhile.

    Waiting records are only marked: their outcome says so.
    """
    said_before = await _outbox_row(connection, item)
    if not await _mark(connection, item, why):
        raise NoSuchItem(item.id)
    if not item.is_head and not await _is_head(connection, item):
        return Outcome(0, 1, Stopped.NO, f"it is let go of when {item.head} is done")
    deadline = time.monotonic() + patience_seconds
    # A try that was under way when the mark was set writes its own reason over it: then it is marked again.
    while await _mark(connection, item, why):
        if time.monotonic() > deadline:
            return Outcome(
                0,
                1,
                Stopped.NOT_TAKEN,
                f"it is marked, but nobody took it within {patience_seconds:.0f} s: {item.id.service} does not seem to "
                f"run, and lets go of it as soon as it does",
            )
        await asyncio.sleep(LOOK_SECONDS)
    if not await _is_discarded(connection, item, said_before):
        raise NoSuchItem(item.id)
    return Outcome(1, 0)


async def _outbox_row(connection: Connection, item: Item) -> int:
    """The number of the last outbox row of its lane."""
    cursor = await connection.execute("SELECT outbox_row FROM lanes WHERE partition = %s", (item.id.partition,))
    [number] = await cursor.fetchone() or (0,)
    return int(number)


async def _is_discarded(connection: Connection, item: Item, said_before: int) -> bool:
    """Whether it went with a dead letter that says so: a try that was under way may have handled it instead. The letter
    is in the outbox since the row is gone, and stays there for a while."""
    cursor = await connection.execute(
        "SELECT facts FROM outbox WHERE partition = %s AND number > %s", (item.id.partition, said_before)
    )
    wanted = {("dead_letter_origin", item.origin.encode()), ("dead_letter_reason", DISCARDED.encode())}
    return any(
        fact.topic == item.id.service + DEAD_LETTERS and wanted <= set(fact.headers)
        for (facts,) in await cursor.fetchall()
        for fact in _facts.decode(facts)
    )


async def _is_head(connection: Connection, item: Item) -> bool:
    """What it waited for may have been handled while it was marked."""
    cursor = await connection.execute(
        "SELECT min(number) = %s FROM parked WHERE partition = %s AND key = %s AND holds",
        (item.id.number, item.id.partition, item.parked.key),
    )
    [is_head] = await cursor.fetchone() or (False,)
    return bool(is_head)


async def _mark(connection: Connection, item: Item, why: str) -> bool:
    """Whether the record is still there."""
    record = item.parked.record
    cursor = await connection.execute(
        "UPDATE parked p SET reason = %s, message = %s, retry_at = CASE WHEN NOT holds OR number = (SELECT min(number) "
        "FROM parked WHERE partition = p.partition AND key = p.key AND holds) THEN to_timestamp(0) "
        "ELSE retry_at END WHERE partition = %s AND number = %s AND topic = %s AND log_offset = %s",
        (DISCARDED, why, item.id.partition, item.id.number, record.topic, record.offset),
    )
    return cursor.rowcount == 1
