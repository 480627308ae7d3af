"""CPU counts until the timeline, which gives way, has heard all; and that is waited for as long as it comes nearer."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pavane.bench import commands, drain
from pavane.bench.drain import STILL_SECONDS, STUCK_SECONDS, Seen, is_still
from pavane.bench.proof import NotProven
from pavane.bench.scenario import Given, Options
from pavane.bench.scenarios import latency
from pavane.bench.usage import Usage

TOPICS = {"orders"}
BEGIN, END = {("orders", 0): 5}, {("orders", 0): 15}


class OneCore:
    """A platform that uses one core all the time."""

    def cpu_seconds(self, begin: float, end: float) -> dict[str, float]:
        return {"timeline": end - begin}


USAGE = cast("Usage", OneCore())


def said(at: float) -> Seen:
    """Ten facts, the last of them said at that moment."""
    seen = Seen(BEGIN, 0.0)
    seen.grew(END, at)
    return seen


def test_what_the_timeline_does_after_the_last_fact_costs_cpu_too() -> None:
    seen = said(10.0)
    seen.heard({("orders", 0): 12}, TOPICS, 14.0)
    seen.heard(END, TOPICS, 15.0)

    assert seen.grew_at == 10.0
    assert drain.used(USAGE, 1.0, seen) == {"timeline": 14.0}


def test_cpu_at_a_steady_rate_counts_from_the_first_order_that_is_due_until_all_is_heard() -> None:
    noted = [(3.0, 3.1, 202, "o-1"), (4.0, 4.1, 202, "o-2")]

    assert latency.used(USAGE, noted, 9.0) == {"timeline": 6.0}


def test_the_timeline_is_waited_for_as_long_as_it_comes_nearer() -> None:
    seen = said(0.0)
    for step in range(6, 15):
        now = step * STUCK_SECONDS * 0.9
        seen.heard({("orders", 0): step}, TOPICS, now)
        assert not is_still(seen, now)

    with pytest.raises(NotProven, match="10 records were said, the last 1634 seconds ago, and the timeline has not"):
        seen.heard({("orders", 0): 14}, TOPICS, now := 14 * STUCK_SECONDS * 0.9 + STUCK_SECONDS + 2)
        is_still(seen, now)


def test_a_drain_is_over_when_nothing_was_said_for_a_while_and_the_timeline_has_heard_all() -> None:
    seen = said(10.0)
    assert not is_still(seen, 11.0 + STILL_SECONDS)

    seen.heard(END, TOPICS, 11.0)

    assert not is_still(seen, 10.0 + STILL_SECONDS)
    assert is_still(seen, 11.0 + STILL_SECONDS)


async def test_what_took_too_long_is_no_figure_and_ends_no_other_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    began = []

    async def run(given: Given) -> None:
        began.append(given)
        raise TimeoutError("after 60 seconds: timeline has 7 records of orders/1 to hear")

    monkeypatch.setattr(commands, "scenario", lambda name: SimpleNamespace(TITLE=name, run=run))

    code = await commands.bench(["drain", "hot"], Options(tmp_path), tmp_path)

    told = capsys.readouterr().out
    assert (code, len(began)) == (commands.WRONG, 2)
    assert "No figure: after 60 seconds: timeline has 7 records" in told
    assert "Nothing was written" in told
    assert "Everything is in" not in told
