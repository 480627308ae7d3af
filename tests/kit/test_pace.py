"""Records are gathered for longer where a processor is short, and only there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from streams.kit import pace
from streams.kit.pace import LOOK_SECONDS, Pace, waited_seconds

LEAST, MOST = 20, 120


def after(share: float, seconds: float) -> tuple[Pace, Callable[[], int]]:
    """A pace of a process that waits for so much of its time; `now` is how long it gathers after some seconds more."""
    clock = [0.0]
    of = Pace(LEAST, MOST, lambda: share * clock[0])

    def now() -> int:
        for _ in range(int(seconds / LOOK_SECONDS) + 1):
            found = of.milliseconds(clock[0])
            clock[0] += LOOK_SECONDS
        return found

    return of, now


def test_who_never_waits_gathers_for_the_least_time() -> None:
    assert after(0.0, 10)[1]() == LEAST


def test_who_waits_for_a_processor_gathers_longer_up_to_the_most() -> None:
    assert LEAST < after(0.5, 1)[1]() < MOST
    assert after(0.5, 10)[1]() == MOST


def test_between_the_bounds_nothing_changes() -> None:
    assert after((pace.SHORT + pace.ENOUGH) / 2, 10)[1]() == LEAST


def test_it_comes_back_when_there_are_processors_again() -> None:
    waited, clock = [0.0], 0.0
    of = Pace(LEAST, MOST, lambda: waited[0])
    for _ in range(20):
        of.milliseconds(clock)
        clock, waited[0] = clock + 1, waited[0] + 0.5
    assert of.milliseconds(clock) == MOST
    for _ in range(20):
        clock += 1
        found = of.milliseconds(clock)
    assert found == LEAST


def test_it_is_looked_at_twice_a_second_at_most() -> None:
    looks = []

    def waited() -> float:
        looks.append(1)
        return 0.0

    of = Pace(LEAST, MOST, waited)
    for number in range(1_000):
        of.milliseconds(number / 1_000)
    assert len(looks) == 2


def test_where_nobody_counts_the_pace_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pace, "_COUNTED", tmp_path / "none")
    assert waited_seconds() == 0.0


def test_linux_counts_and_the_count_only_grows() -> None:
    first = waited_seconds()
    assert 0 <= first <= waited_seconds()
