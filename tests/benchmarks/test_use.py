"""The benchmark tells the transactions of a service from the statements that PostgreSQL has counted."""

import pytest

from pavane.bench.database import Use
from streams.kit.rows import Changes
from streams.kit.statements import everything
from tests.kit.counter_events import Count, Entry

PLACED = "INSERT INTO payments AS known SELECT * FROM json_populate_recordset($2::payments, $1)"


def use(calls: dict[str, int]) -> Use:
    return Use(0, 0, 0, {("here", statement): count for statement, count in calls.items()})


def test_a_batch_is_one_statement_that_writes_to_several_tables() -> None:
    both = everything([], [Changes(Count, [Count(counter="a")]), Changes(Entry, [Entry(entry="a/1")])])[0].decode()
    one = everything([], [Changes(Count, [Count(counter="a")])])[0].decode()
    found = use({both: 5, one: 3, "SELECT * FROM counts": 100})

    assert found.batches("here", ["counts", "entries"]) == 8
    assert found.batches("here", ["entries"]) == 5


@pytest.mark.parametrize(("table", "batches"), [("payments", 7), ("payment", 0), ("outbox", 0)])
def test_a_table_is_known_by_its_whole_name(table: str, batches: int) -> None:
    assert use({PLACED: 7}).batches("here", [table]) == batches


def test_another_database_is_not_counted() -> None:
    assert use({PLACED: 7}).batches("elsewhere", ["payments"]) == 0
