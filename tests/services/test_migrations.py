"""Every service's migrations lead to the tables that its code expects, on a real database."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from contracts.views import services
from pavane import prepare
from pavane.rebuild.databases import expect_whole, made_whole
from pavane.rebuild.errors import TablesAhead, TablesBehind
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


def migrate_as_a_newer_version(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE invoices ADD COLUMN harm text")
        connection.execute("UPDATE alembic_version SET version_num = 'billing_0002' WHERE version_num = 'billing_0001'")


async def test_a_rollback_over_a_migration_leaves_the_tables_of_the_newer_version(empty: Callable[[str], str]) -> None:
    urls = {name: empty(name) for name in NAMES}
    url, environment = urls["billing"], {"PAVANE_DATABASE_BILLING": urls["billing"]}
    assert prepare.migrate_databases(urls) == ", ".join(urls)
    migrate_as_a_newer_version(url)

    told = prepare.migrate_databases(urls)

    others = ", ".join(name for name in NAMES if name != "billing")
    assert told == f"{others}; left as a newer version migrated it: billing (has billing_0002)"
    assert "remove_column invoices" in " ".join(check("billing", url)), "what that version added is still there"
    for refusal in (made_whole("billing", environment), expect_whole("billing", environment, may_be_behind=True)):
        with pytest.raises(TablesAhead, match=r"migrated by a newer version \(billing_0002\)"):
            await refusal


async def test_who_only_compares_does_not_migrate_the_live_tables(empty: Callable[[str], str]) -> None:
    url = empty("billing")
    environment = {"PAVANE_DATABASE_BILLING": url}
    with pytest.raises(TablesBehind, match="pavane migrate"):
        await expect_whole("billing", environment, may_be_behind=False)
    assert "add_table lanes" in " ".join(check("billing", url)), "nothing was made"

    await expect_whole("billing", environment, may_be_behind=True)
    await made_whole("billing", environment)
    await expect_whole("billing", environment, may_be_behind=False)
    assert check("billing", url) == []


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
