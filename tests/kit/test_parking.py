"""What waits with its key, and when it is tried again."""

from datetime import UTC, datetime

import pytest

from streams.kit import envelope
from streams.kit.log import Record
from streams.kit.parking import BEHIND, Parked, Parking, next_try

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RECORD = Record("left", 0, 7, 0, b"a", b"v", ())
SAID = envelope.of_request("left", 0, 7, ())


def park(parking: Parking, key: str, holds: bool = True) -> Parked:
    parking.add(RECORD, SAID, key, "ValueError", "no", holds=holds)
    return parking.added[-1]


def test_a_key_is_held_until_the_last_of_its_records_is_released() -> None:
    parking = Parking({}, 4)
    first, second = park(parking, "a"), park(parking, "a")
    assert ([first.number, second.number], parking.last) == ([5, 6], 6)
    parking.release(first)
    assert parking.holds("a")
    parking.release(second)
    assert (parking.holds("a"), parking.held) == (False, {})


def test_a_record_that_holds_nobody_leaves_its_key_free() -> None:
    parking = Parking({}, 0)
    alone = park(parking, "a", holds=False)
    assert not parking.holds("a")
    parking.release(alone)
    assert parking.held == {}


def test_what_fails_again_stays_at_the_head_with_its_number_of_attempts() -> None:
    parking = Parking({"a": 1}, 1)
    first = Parked(1, "a", True, RECORD, SAID, "ValueError", "no", 1, NOON)
    parking.try_later(first, "KeyError", "still no", None)
    [again] = parking.tried
    assert (again.number, again.attempts, again.reason, again.retry_at) == (1, 2, "KeyError", None)
    assert parking.holds("a")


def test_what_failed_again_and_is_wrong_itself_holds_its_key_no_more() -> None:
    parking = Parking({"a": 2}, 2)
    first = Parked(1, "a", True, RECORD, SAID, BEHIND, "", 1, NOON)
    parking.try_later(first, "Refused", "too few", None, holds=False)
    [again] = parking.tried
    assert (again.number, again.holds, parking.held, parking.freed) == (1, False, {"a": 1}, ["a"])
    parking.release(again)
    assert (parking.held, parking.freed) == ({"a": 1}, ["a"])


@pytest.mark.parametrize(
    ("attempts", "at_least", "seconds"),
    [(1, 0, 1), (2, 0, 2), (4, 0, 8), (1, 30, 30), (99, 0, 60), (10**6, 0, 60), (1, 1e300, 3_600)],
)
def test_pauses_double_up_to_a_minute_unless_the_world_asks_for_longer_and_end_within_an_hour(
    attempts: int, at_least: float, seconds: float
) -> None:
    assert (next_try(NOON, attempts, at_least) - NOON).total_seconds() == seconds
