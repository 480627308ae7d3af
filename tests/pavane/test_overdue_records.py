"""Which parked record of an order is the reason why it is late."""

import asyncio

import psycopg
import pytest

from pavane.overdue.looking import HEADS
from streams.kit.migrations import migrate
from tests.conftest import NewDatabase

PARK = (
    "INSERT INTO parked (partition, number, key, holds, topic, log_offset, reason, message, attempts, delivery) "
    "VALUES (0, %s, 'o-1', %s, %s, 0, %s, '', 1, '')"
)
pytestmark = pytest.mark.stack


async def test_a_refused_request_does_not_hide_the_record_that_holds_the_order_up(new_database: NewDatabase) -> None:
    url = await new_database()
    await asyncio.to_thread(migrate, "orders", url)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(PARK, (1, False, "orders.requests", "Refused"))
        await connection.execute(PARK, (2, True, "billing", "DecisionFailed"))
        rows = await (await connection.execute(HEADS, (["o-1"],))).fetchall()

    assert [(number, reason) for _, _, number, reason, *_ in rows] == [(2, "DecisionFailed")]
