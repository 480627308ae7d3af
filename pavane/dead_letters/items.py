"""Parked records as operators see them: each has an id, a place in the line of its key, and a reason."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import msgspec

from pavane.dead_letters.errors import NoSuchItem
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Connection
from streams.kit.envelope import Envelope
from streams.kit.log import Record
from streams.kit.parking import Parked

ROWS_AT_ONCE = 200

# Places are counted without the deliveries, which are large.
PLACED: LiteralString = """
WITH placed AS (
    SELECT partition, number,
        CASE WHEN holds THEN min(number) OVER line ELSE number END AS head,
        CASE WHEN holds THEN count(*) OVER line ELSE 1 END AS waiting
    FROM parked WINDOW line AS (PARTITION BY partition, key, holds)
)
SELECT partition, number, key, holds, reason, message, attempts, parked_at, retry_at, delivery, head, waiting
FROM parked JOIN placed USING (partition, number)
"""
ALL: LiteralString = PLACED + " ORDER BY parked_at, partition, number"
HEADS: LiteralString = PLACED + " WHERE number = head ORDER BY parked_at, partition, number"
ONE: LiteralString = PLACED + " WHERE partition = %s AND number = %s"
LINE: LiteralString = PLACED + " WHERE partition = %s AND head = %s ORDER BY number"


class ItemId(NamedTuple):
    """service/partition/number. A number is given once, unless somebody has set the lane's clock back."""

    service: str
    partition: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "ItemId":
        """Raises `NotAsked`."""
        service, *numbers = text.strip().split("/")
        if len(numbers) != 2 or not all(number.isascii() and number.isdecimal() for number in numbers):
            raise NotAsked(f"{text!r} is no id: they look like billing/0/12, see 'pavane dead-letters list'")
        return cls(service, int(numbers[0]), int(numbers[1]))

    def __str__(self) -> str:
        return f"{self.service}/{self.partition}/{self.number}"


class Item(NamedTuple):
    """One parked record. `head`: the first of its key, itself if nothing is before it; `behind`: how many wait for it.

    `parked` has all that the service's worker knows.
    """

    id: ItemId
    parked: Parked
    parked_at: datetime
    head: ItemId
    behind: int

    @property
    def is_head(self) -> bool:
        """Nothing is before it: it is what is tried next of its key."""
        return self.head == self.id

    @property
    def origin(self) -> str:
        """Where it comes from: topic/partition/offset."""
        record = self.parked.record
        return f"{record.topic}/{record.partition}/{record.offset}"


async def heads(connection: Connection, service: str) -> AsyncIterator[Item]:
    """What is next of each key, and what is parked alone, the oldest first. Streamed, within a transaction."""
    async for item in _items(connection, service, HEADS):
        yield item


async def everything(connection: Connection, service: str) -> AsyncIterator[Item]:
    """The same, with all that waits behind."""
    async for item in _items(connection, service, ALL):
        yield item


async def one(connection: Connection, wanted: ItemId) -> Item:
    """The record of that id. Raises `NoSuchItem`."""
    cursor = await connection.execute(ONE, (wanted.partition, wanted.number))
    if (row := await cursor.fetchone()) is None:
        raise NoSuchItem(wanted)
    return _item(wanted.service, row)


async def line(connection: Connection, head: ItemId) -> Sequence[Item]:
    """A head and everything that waits behind it, in order."""
    cursor = await connection.execute(LINE, (head.partition, head.number))
    return [_item(head.service, row) for row in await cursor.fetchall()]


async def _items(connection: Connection, service: str, query: LiteralString) -> AsyncIterator[Item]:
    async with connection.cursor("parked") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        await cursor.execute(query)
        async for row in cursor:
            yield _item(service, row)


_delivery = msgspec.msgpack.Decoder(tuple[Record, Envelope])


def _item(service: str, row: tuple[Any, ...]) -> Item:
    partition, number, key, holds, reason, message, attempts, parked_at, retry_at, delivery, head, waiting = row
    parked = Parked(number, key, holds, *_delivery.decode(delivery), reason, message, attempts, retry_at)
    head_id = ItemId(service, partition, head)
    behind = waiting - 1 if number == head else 0
    return Item(ItemId(service, partition, number), parked, parked_at, head_id, behind)
