"""Who did what to parked records and halted lanes, why, and how it ended: one row each, in the service's database.

The row is there before anything is done. An operation that was cut off stays "under way" for ever: it may have done
any part of what it was about.
"""

import getpass
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg.types.json import Jsonb

from pavane.operators.reach import Connection, Reach
from pavane.operators.words import plain

UNDER_WAY = "under way"


class Operation(NamedTuple):
    """`items`: ids of the parked records it was about, or where a lane goes on; `subject`: the same in words. Numbers
    count within a service."""

    service: str
    number: int
    begun_at: datetime
    ended_at: datetime | None
    who: str
    what: str
    items: list[str]
    subject: str
    why: str
    outcome: str


def somebody(named: str) -> str:
    """Who is at work: the name given, else the user of this process."""
    return plain(named or getpass.getuser())


async def begin(connection: Connection, who: str, what: str, about: Sequence[object], subject: str, why: str) -> int:
    """Write down what is about to be done, to which ids; the operation's number."""
    cursor = await connection.execute(
        "INSERT INTO operations (who, what, items, subject, why, outcome) VALUES (%s, %s, %s, %s, %s, %s) "
        "RETURNING number",
        (who, what, Jsonb([str(each) for each in about]), plain(subject), plain(why), UNDER_WAY),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def end(connection: Connection, number: int, outcome: str) -> None:
    """Write down how it ended."""
    await connection.execute(
        "UPDATE operations SET ended_at = now(), outcome = %s WHERE number = %s", (plain(outcome), number)
    )


async def about(connection: Connection, service: str, item: object) -> list[Operation]:
    """Every operation about this record, the last ones first."""
    cursor = await connection.execute(
        "SELECT number, begun_at, ended_at, who, what, items, subject, why, outcome FROM operations "
        "WHERE items @> %s ORDER BY number DESC",
        (Jsonb([str(item)]),),
    )
    return [Operation(service, *row) for row in await cursor.fetchall()]


async def all_of(reach: Reach, services: Sequence[str]) -> list[Operation]:
    """Every operation, the last ones first."""
    found: list[Operation] = []
    for service in reach.services(services):
        async with reach.database(service, reading=True) as connection:
            cursor = await connection.execute(
                "SELECT number, begun_at, ended_at, who, what, items, subject, why, outcome FROM operations"
            )
            found += [Operation(service, *row) for row in await cursor.fetchall()]
    return sorted(found, key=lambda each: (each.begun_at, each.service, each.number), reverse=True)
