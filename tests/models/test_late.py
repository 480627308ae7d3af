"""An order is late when it has waited far longer than the step usually takes, and only then."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from api.late import LEAST_SECONDS, TIMES, UNKNOWN_SECONDS, Story, late, patience, usual

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RESERVE = ("inventory", ("StockReserved", "StockRejected"))


class Entry(NamedTuple):
    fact: str
    at: datetime
    detail: dict[str, Any]


def told(*facts: tuple[str, float]) -> list[Entry]:
    detail = {"deadline": "2026-01-01T12:15:00Z"}
    return [Entry(fact, NOON + timedelta(seconds=seconds), detail) for fact, seconds in facts]


def story(entries: Sequence[Entry], order_id: str = "o-1", status: str = "placed") -> Story:
    return Story(order_id, "shop", status, entries)


def test_what_is_usual_is_what_99_of_100_took():
    stories = [told(("OrderPlaced", 0), ("StockReserved", n / 100)) for n in range(101)]

    assert usual(stories)[RESERVE] == pytest.approx(0.99)


def test_an_outage_does_not_make_the_next_one_usual():
    quick = [told(("OrderPlaced", 0), ("StockReserved", 0.3))] * 60
    held_up = [told(("OrderPlaced", 0), ("StockReserved", 600))] * 40

    assert usual([*quick, *held_up])[RESERVE] == pytest.approx(3.0)


def test_an_answer_that_is_stamped_before_its_question_took_no_time():
    assert usual([told(("OrderPlaced", 1), ("StockRejected", 0.5))])[RESERVE] == 0.0


def test_a_step_that_nobody_has_finished_is_not_known():
    assert usual([told(("OrderPlaced", 0))]) == {}


@pytest.mark.parametrize(
    ("seconds", "most"), [(None, UNKNOWN_SECONDS), (0.01, LEAST_SECONDS), (60.0, TIMES * 60.0)]
)
def test_patience_is_a_few_times_what_is_usual_and_never_less_than_some_seconds(seconds: float | None, most: float):
    assert patience(seconds) == most


def test_an_order_is_late_once_patience_is_over_and_says_for_whom_it_waits_and_until_when():
    entries = told(("OrderPlaced", 0), ("InvoiceOpened", 0), ("ShipmentPlanned", 0))
    steps = {RESERVE: 2.0}

    assert late([story(entries)], steps, NOON + timedelta(seconds=10)) == []
    [found] = late([story(entries)], steps, NOON + timedelta(seconds=11))
    assert (found.speaker, found.facts) == RESERVE
    assert (found.waited_seconds, found.usual_seconds) == (11.0, 2.0)
    assert found.by == NOON + timedelta(minutes=15)


def test_what_waits_longest_comes_first():
    entries = [told(("OrderPlaced", n), ("InvoiceOpened", n), ("ShipmentPlanned", n)) for n in (5, 0, 9)]

    found = late([story(each, f"o-{n}") for n, each in enumerate(entries)], {}, NOON + timedelta(minutes=1))

    assert [each.order_id for each in found] == ["o-1", "o-0", "o-2"]


def test_an_order_that_has_ended_is_late_until_everybody_has_closed_it_and_nobody_calls_it_off():
    facts = told(("OrderPlaced", 0), ("StockReserved", 1), ("PaymentDeclined", 2), ("OrderCancelled", 3))
    found = late([story(facts, status="cancelled")], {}, NOON + timedelta(minutes=1))

    assert {each.speaker for each in found} == {"inventory", "billing", "shipping"}
    assert {each.by for each in found} == {None}
