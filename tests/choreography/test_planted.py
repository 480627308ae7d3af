"""The explorer finds every planted bug, by the trace that `choreography/README.md` shows.

    python -m tests.choreography.test_planted      # write the table of the README again
"""

import re
from pathlib import Path
from typing import Any

import pytest

from choreography.explored import Explored, explore
from contracts.views import services
from streams.kit import clock
from streams.kit.clock import Verdict
from tests.choreography.planted import BUGS, Bug

README = Path(__file__).parents[2] / "choreography" / "README.md"
KEY = re.compile(r"0190a000-0000-7000-8000-0+(\d)")


def walk(bug: Bug) -> Explored:
    """Look for the bug in its scenario."""
    return explore(bug.dancers(), bug.customers, world=bug.world)


def row(bug: Bug, found: Explored) -> str:
    """The bug and its trace, as one row of the README's table."""
    assert found.walked.violation is not None, f"{bug.what}: not found in {found.walked.states:,} states"
    what = KEY.sub(r"\1", found.walked.violation.what)
    trace = "<br>".join(line.replace(" -> ", " → ") for line in found.story)
    return f"| {bug.what} | {what} | {trace} |"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_a_planted_bug_is_found_by_the_trace_that_is_shown(bug: Bug) -> None:
    shown = README.read_text()

    assert row(bug, walk(bug)) in shown, "run 'python -m tests.choreography.test_planted'"


def test_the_table_shows_no_other_bugs() -> None:
    _, table, _ = _parts()

    assert len(table.strip().splitlines()) == len(BUGS) + 2


def test_a_service_that_trusts_the_order_of_topics_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit's clock makes answers wait for their questions. Without that, billing hears of stock before the order."""
    _judges(monkeypatch, Verdict.EARLY)

    assert explore(services(), ("pays",), faults=False).walked.violation is not None


def test_decisions_alone_withstand_a_fact_that_is_heard_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    _judges(monkeypatch, Verdict.KNOWN)

    assert explore(services(), ("pays",), faults=False).walked.violation is None


def _judges(monkeypatch: pytest.MonkeyPatch, ignored: Verdict) -> None:
    """The clock takes what it should hold back, or pass over, for the next fact."""
    right = clock.judge

    def judge(*known: Any) -> Verdict:
        verdict = right(*known)
        return Verdict.NEXT if verdict is ignored else verdict

    monkeypatch.setattr(clock, "judge", judge)


def _parts() -> tuple[str, str, str]:
    """The README before its table, the table, and the rest."""
    text = README.read_text()
    before, _, rest = text.partition("<!-- planted -->\n")
    table, _, after = rest.partition("<!-- /planted -->")
    return before, table, after


if __name__ == "__main__":
    before, _, after = _parts()
    rows = "\n".join(row(bug, walk(bug)) for bug in BUGS)
    table = f"| bug | what the explorer says | by which trace |\n| --- | --- | --- |\n{rows}\n"
    README.write_text(f"{before}<!-- planted -->\n{table}<!-- /planted -->{after}")
