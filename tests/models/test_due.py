"""What is due next is what the services really say next."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from api.due import due, is_over
from contracts.choreography import example, play
from contracts.views import services
from tests.models.test_dance import Dance, order

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ENDS = ("OrderConfirmed", "OrderCancelled")


class Entry(NamedTuple):
    fact: str
    at: datetime
    detail: dict[str, Any]


def story(facts: list[str]) -> list[Entry]:
    """Told a second apart."""
    detail = {"deadline": "2026-01-01T12:15:00Z"}
    return [Entry(fact, NOON + timedelta(seconds=n), detail) for n, fact in enumerate(facts)]


@pytest.mark.parametrize(("method", "country"), [("card-ok", "DE"), ("card-declined", "DE"), ("card-ok", "XX")])
def test_every_fact_of_a_saga_was_due_before_it_came_and_then_nothing_is(method: str, country: str):
    steps = [step for step in play(example(method, country), list(services())) if step.speaker != "gateway"]
    facts: list[str] = []
    for step in steps:
        owed = due(story(facts))
        assert not facts or step.event in [fact for each in owed for fact in each.facts], (facts, step.event)
        assert not facts or step.speaker in [each.speaker for each in owed]
        assert not is_over(facts)
        facts.append(step.event)
    assert due(story(facts)) == []
    assert is_over(facts)


def test_nothing_is_due_once_the_real_decisions_came_to_rest_in_any_order():
    ended = set()
    for seed in range(60):
        dance = Dance(seed, [order(number, seed) for number in range(3)], on_hand=2)
        dance.run()
        for order_id in dance.placed:
            facts = dance.facts(order_id)
            assert (due(story(facts)), is_over(facts)) == ([], True), facts
            ended |= {fact for fact in ENDS if fact in facts}
    assert ended == set(ENDS)


def test_what_an_open_order_waits_for_is_told_with_since_when_and_until_when():
    [owed] = due(story(["OrderPlaced", "InvoiceOpened", "ShipmentPlanned", "StockReserved"]))

    assert (owed.speaker, owed.facts) == ("billing", ("PaymentAuthorized", "PaymentDeclined"))
    assert owed.since == NOON + timedelta(seconds=3)
    assert owed.by == NOON + timedelta(minutes=15)


def test_a_rejected_order_is_over_and_one_not_heard_of_is_not():
    assert is_over(["OrderRejected"])
    assert not is_over([])
    assert due([]) == []
