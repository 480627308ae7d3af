"""What py-spy saw is put down to kinds of work."""

import pytest

from tests.benchmarks.shares import THE_REST, kind_of, shares

WORKER = "Worker.run (streams/kit/worker.py:99)"
PSYCOPG = "wait_async (psycopg/waiting.py:10)"


@pytest.mark.parametrize(
    ("stack", "kind"),
    [
        ([WORKER], THE_REST),
        ([WORKER, "Fold.lane (streams/kit/fold.py:80)"], "folding a batch"),
        ([WORKER, "Fold.lane (streams/kit/fold.py:80)", "place (streams/orders/service.py:9)"], "deciding, evolving"),
        ([WORKER, "_load (streams/kit/postgres.py:7)", PSYCOPG], "statements"),
        ([WORKER, "Keyring._ask (streams/kit/keyring.py:7)", PSYCOPG], "customers' keys"),
    ],
)
def test_a_sample_belongs_to_the_innermost_kind_and_all_that_is_done_for_keys_to_keys(
    stack: list[str], kind: str
) -> None:
    assert kind_of(stack) == kind


def test_shares_are_of_all_samples() -> None:
    found = shares(f"main;{WORKER} 1\nmain;{WORKER};{PSYCOPG} 3\n")
    assert (found["statements"], found[THE_REST], sum(found.values())) == (0.75, 0.25, 1.0)
