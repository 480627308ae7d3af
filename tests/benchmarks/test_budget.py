"""What a saga may cost in statements, commits, round trips and bytes. Nothing is timed.

`budget.json` holds what was counted when it was recorded. When a figure rises on purpose (or has fallen), record again:

    RECORD=1 .venv/bin/python -m pytest tests/benchmarks/test_budget.py
"""

import json
import os
from pathlib import Path

import pytest

from pavane.bench.counts import count

BUDGET = Path(__file__).with_name("budget.json")
ORDERS = 500
#: How much more than recorded is still the same: batches are not cut the same way twice.
ROOM = 0.10
SHOWN_STATEMENTS = 15


@pytest.mark.stack
async def test_a_saga_costs_no_more_statements_commits_round_trips_and_bytes_than_recorded(tmp_path: Path) -> None:
    counts = await count(tmp_path / "stack", ORDERS)
    found = counts.figures()
    if os.environ.get("RECORD"):
        BUDGET.write_text(json.dumps(found, indent=2) + "\n")
    recorded = json.loads(BUDGET.read_text())

    over = [
        f"{name}: {found[name]:,.3f} a saga, recorded were {recorded[name]:,.3f}"
        for name in recorded
        if found[name] > recorded[name] * (1 + ROOM)
    ]
    most = "\n".join(
        f"  {share:6.3f} a saga, {database}: {' '.join(statement.split())[:90]}"
        for (database, statement), share in list(counts.by_statement.items())[:SHOWN_STATEMENTS]
    )
    assert not over, (
        f"{'; '.join(over)}.\nWhat was executed most:\n{most}\nCompare with the commit before by the same test with -s "
        f"(it prints this list); where the rise is meant, record it: RECORD=1 pytest {Path(__file__).name}"
    )
    print(f"\n{found}\n{most}")  # noqa: T201
