"""Every service's migrations lead to the tables that its code expects, on a real database."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from contracts.views import services
from streams.kit import migrations
from streams.kit.errors import TablesHeld
from streams.kit.migrations import check, migrate

NAMES = [service.name for service in services()]


@pytest.mark.parametrize("name", NAMES)
def test_migrations_lead_to_the_tables_of_the_code(name: str, empty: Callable[[str], str]) -> None:
    url = empty(name)
    assert any(f"add_table {table}" in " ".join(check(name, url)) for table in ("lanes", "outbox"))
    migrate(name, url)
    assert check(name, url) == []
    migrate(name, url)
    assert check(name, url) == []


async def test_instances_that_start_together_migrate_once(empty: Callable[[str], str]) -> None:
    url = empty("orders")
    await asyncio.gather(*(asyncio.to_thread(migrate, "orders", url) for _ in range(4)))
    assert check("orders", url) == []


async def test_who_holds_a_table_for_long_is_named_and_makes_nobody_wait_behind_a_migration(
    empty: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TRIES", 2)
    url = empty("orders")
    migrate("orders", url)
    with psycopg.connect(url, application_name="an-audit") as holding:
        holding.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")

        with pytest.raises(TablesHeld, match=rf"an-audit \(PID {holding.info.backend_pid}\) for \d+ s"):
            await asyncio.to_thread(migrate, "orders", url)
    migrate("orders", url)


def test_tables_that_differ_are_told(empty: Callable[[str], str]) -> None:
    url = empty("billing")
    migrate("billing", url)
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE invoices DROP COLUMN method, ADD COLUMN note text")
    told = " ".join(check("billing", url))
    assert "add_column invoices" in told
    assert "remove_column invoices" in told
