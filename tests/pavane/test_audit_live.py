"""The audit on real parts: it reads databases, log and registry, finds what was done to them, and changes nothing."""

from contextlib import closing

import psycopg
import pytest

from infra.stack import Stack
from pavane.audit import EvidenceMissing, Report, audit, log
from pavane.audit.live import Registry

STRAY = "00000000-0000-4000-8000-00000000dead"


async def test_the_audit_judges_every_invariant_on_real_parts(stack: Stack):
    report = await audit(stack.addresses.environment())

    assert [verdict.name for verdict in report.verdicts] == [
        "orders-end",
        "requests-answered",
        "confirmed-paid-and-sent",
        "cancelled-undone",
        "stock-balances",
        "sequences",
        "nothing-lost",
        "after-causes",
        "rows-rebuilt",
        "views-rebuilt",
        "entries-told",
        "parked",
        "dead-letters",
    ]
    assert report.seconds > 0


async def test_a_row_that_no_fact_made_is_found_in_the_real_database(stack: Stack):
    """Other tests use the stack as well, so what they left there is compared with, not asserted."""
    before = await audit(stack.addresses.environment())
    with psycopg.connect(stack.addresses.postgres["billing"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO invoices (order_id, tenant, status, amount_minor) VALUES (%s, 'shop', 'open', 5)", (STRAY,)
        )
        try:
            report = await audit(stack.addresses.environment())
        finally:
            connection.execute("DELETE FROM invoices WHERE order_id = %s", (STRAY,))

    assert new_violations(before, report, "rows-rebuilt") == {
        f"billing.invoices {STRAY}: no fact says that this row exists"
    }
    assert new_violations(before, report, "cancelled-undone") == {
        f"order {STRAY} was never placed, but there is something of it in billing.invoices"
    }


def new_violations(before: Report, after: Report, name: str) -> set[str]:
    return set(after.verdict(name).violations) - set(before.verdict(name).violations)


@pytest.mark.parametrize("variable", ["PAVANE_KAFKA", "PAVANE_REGISTRY", "PAVANE_DATABASE_WORLD"])
async def test_a_missing_setting_is_named(stack: Stack, variable: str):
    environment = {name: value for name, value in stack.addresses.environment().items() if name != variable}

    with pytest.raises(EvidenceMissing, match=variable):
        await audit(environment)


async def test_a_database_that_does_not_answer_is_named_without_its_password(stack: Stack):
    unreachable = "postgresql://orders:secret@127.0.0.1:9/orders"
    environment = {**stack.addresses.environment(), "PAVANE_DATABASE_ORDERS": unreachable}

    with pytest.raises(EvidenceMissing, match="PAVANE_DATABASE_ORDERS") as raised:
        await audit(environment)

    assert "secret" not in str(raised.value)


def test_a_registry_that_does_not_answer_is_named():
    with pytest.raises(EvidenceMissing, match="PAVANE_REGISTRY"):
        Registry("http://127.0.0.1:9").schema_of(1)


def test_a_kafka_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "TIMEOUT_SECONDS", 0.5)

    with closing(log.LogReader("127.0.0.1:9")) as reader, pytest.raises(EvidenceMissing, match="PAVANE_KAFKA"):
        reader.partition_count(["orders"])
