"""What a change-over locks, on a real database; tests/faults/test_lost_database.py changes over while orders flow."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from pavane.rebuild import beside
from pavane.rebuild.swapping import lock
from streams.kit.migrations import migrate
from tests.conftest import NewDatabase
from tests.waiting import eventually

#: As a vacuum does.
VACUUMED = "LOCK TABLE {}.invoices IN SHARE UPDATE EXCLUSIVE MODE"
WAITS = "SELECT mode FROM pg_locks WHERE NOT granted AND relation = '{}.invoices'::regclass"


@pytest.mark.parametrize("place", ["public", "rebuilt"])
async def test_batches_go_on_while_a_change_over_waits_for_a_vacuum(place: str, new_database: NewDatabase) -> None:
    url = await new_database()
    await asyncio.to_thread(migrate, "billing", url)
    await asyncio.to_thread(beside.make_tables, "billing", url)
    with vacuuming(url, place) as vacuum, psycopg.connect(url, autocommit=True) as batch:
        async with beside.connected("billing", url) as connection, connection.transaction():
            locking = asyncio.create_task(lock(connection, ["invoices"]))

            def waits() -> bool:
                return batch.execute(WAITS.format(place).encode()).fetchall() == [("ShareUpdateExclusiveLock",)]

            await eventually(waits, what="it waits for the vacuum")
            batch.execute("SET lock_timeout = '100ms'")
            batch.execute("INSERT INTO lanes (partition, partition_count, epoch) VALUES (0, 4, 1)")
            batch.execute("SELECT count(*) FROM invoices")
            vacuum.rollback()
            await locking
            with pytest.raises(psycopg.errors.LockNotAvailable):
                batch.execute("UPDATE lanes SET epoch = 2")


@contextmanager
def vacuuming(url: str, place: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        connection.execute(VACUUMED.format(place).encode())
        yield connection
