"""A load ends with a verdict, goal by goal, whatever was missed; and scripts are told by the exit code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pavane.bench.commands import MISSED, WRONG, exit_code
from pavane.bench.goals import Goal, flat
from pavane.bench.report import Report, Result, Row
from pavane.bench.scenarios.load import Plan, Unended, judged
from pavane.lines import Lines

MIB = 2**20
PLAN = Plan(rate=10, seconds=10, seed=1)
FLAT = [100 * MIB] * 11
ALL_ENDED = Unended([], [])


def told(post_seconds: float = 0.020, requests: int = 100, errors: Sequence[str] = ()) -> dict[str, Any]:
    seconds = {"POST order": [post_seconds] * (requests // 2), "GET order": [9.0] * (requests - requests // 2)}
    return {"seconds": seconds, "errors": list(errors), "placed": ["o-1", "o-2"]}


def missed(goals: Sequence[Goal]) -> dict[str, str]:
    return {goal.what: goal.missed for goal in goals if not goal.is_met}


def test_a_run_that_meets_every_goal_misses_none():
    assert not missed(judged(PLAN, told(), FLAT, ALL_ENDED, "", quick=False))


@pytest.mark.parametrize(
    ("found", "memory", "unended", "broken", "what", "by_how_much"),
    [
        (told(post_seconds=0.031), FLAT, ALL_ENDED, "", "p99 of POST order", "6.0 ms over"),
        (told(requests=90), FLAT, ALL_ENDED, "", "requests a second", "0.8 short"),
        (told(), [MIB * (100 + 3 * n) for n in range(11)], ALL_ENDED, "", "the gateway's memory", "5.4 % over"),
        (told(errors=["POST order: 500"]), FLAT, ALL_ENDED, "", "errors", "POST order: 500"),
        (told(), FLAT, Unended(["o-2"], []), "", "orders that have not ended", "1 are nowhere; the first is o-2"),
        (told(), FLAT, Unended([], ["o-1"]), "", "orders that have not ended", "1 are under way; the first is o-1"),
        (told(), FLAT, ALL_ENDED, "stock: 1 too few", "the audit", "stock: 1 too few"),
    ],
)
def test_a_goal_that_is_missed_says_by_how_much_and_hides_no_other(
    found: dict[str, Any], memory: list[int], unended: Unended, broken: str, what: str, by_how_much: str
):
    goals = judged(PLAN, found, memory, unended, broken, quick=False)

    assert missed(goals) == {what: by_how_much}
    assert len(goals) == len(judged(PLAN, told(), FLAT, ALL_ENDED, "", quick=False))


def test_memory_that_has_grown_before_the_middle_is_flat():
    assert flat("memory", [50, 60, 70, 80, 90, 100, 100, 100, 100, 100, 100], 0.05).is_met


def test_a_short_run_is_held_to_what_is_right_and_wrong_alone():
    found = told(post_seconds=1.0, requests=1, errors=["GET order: 503"])

    assert missed(judged(PLAN, found, FLAT, ALL_ENDED, "", quick=True)) == {"errors": "GET order: 503"}


def test_the_exit_code_tells_a_wrong_run_from_a_slow_one():
    slow, lost = Goal("slow", "", "", "1 ms over", is_figure=True), Goal("lost", "", "", "1 too many")

    assert exit_code([], []) == 0
    assert exit_code([], [slow]) == MISSED
    assert exit_code([], [slow, lost]) == exit_code(["load"], []) == WRONG


def test_the_table_is_there_whatever_was_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    goals = judged(PLAN, told(post_seconds=0.031), FLAT, Unended(["o-2"], []), "", quick=False)

    Report(tmp_path, Lines()).add("load", Result("A load", ["POST"], [Row("requests", ["7"])], {}, goals=goals))

    said = capsys.readouterr().out
    assert "requests" in said
    assert all(goal.line() in said for goal in goals)
    kept = json.loads((tmp_path / "bench.json").read_text())["scenarios"]["load"]["goals"]
    assert [each["what"] for each in kept if not each["met"]] == ["p99 of POST order", "orders that have not ended"]
