"""Why an order is late: the first thing that is known to hold it up, and the command that helps."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from api.late import Late
from pavane.lanes.listing import Lane
from pavane.overdue.looking import Found
from pavane.overdue.reasons import Known, Waiting, Why, why
from pavane.overdue.telling import _document, lines

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PARKED = Waiting("shipping/2/7", "Unanswered", "carrier: open", 3, NOON)


def lane(service: str = "shipping", **changes: object) -> Lane:
    return Lane(service, 2, 5, {}, {}, None, 0, 0, {})._replace(**changes)  # type: ignore[arg-type]


def known(*lanes: Lane, held: bool = True, parked: Waiting | None = None) -> Known:
    found = {("shipping", "o-1"): parked} if parked else {}
    return Known({(each.service, each.partition): each for each in lanes}, {"shipping": {2} if held else set()}, found)


@pytest.mark.parametrize(
    ("found", "words", "command"),
    [
        (known(lane(), parked=PARKED), "tried 3 times, again at 12:00:00 UTC: carrier: open", "show shipping/2/7"),
        (known(lane(), parked=PARKED._replace(retry_at=None)), "until somebody decides", "show shipping/2/7"),
        (known(lane(halted="a gap")), "lane 2 of shipping is halted: a gap", "pavane lanes list"),
        (known(lane(), held=False), "no process of shipping holds lane 2", "pavane run shipping"),
        (known(lane(to_hear={"billing": 1})), "has yet to hear 1 record", "pavane lanes list shipping"),
        (known(lane(to_say=4)), "has decided and cannot say it", "pavane lanes list"),
        (known(lane("timeline", to_hear={"shipping": 1200})), "yet to hear 1,200 records", "pavane run timeline"),
        (known(lane()), "nothing is known", "pavane audit"),
    ],
)  # fmt: skip
def test_the_reason_names_what_holds_the_order_up_and_the_command_that_helps(found: Known, words: str, command: str):
    reason = why(found, "shipping", "o-1", 2)

    assert words in reason.reason
    assert command in reason.remedy


def test_without_an_answer_of_kafka_nobody_is_said_to_be_missing():
    found = known(lane(), held=False)._replace(held=None)

    assert why(found, "shipping", "o-1", 2).remedy == "pavane audit"


def test_all_lanes_that_nobody_holds_are_one_reason():
    both = Known({("shipping", n): lane(partition=n) for n in (1, 2)}, {}, {})

    assert {why(both, "shipping", "o-1", n).reason for n in (1, 2)} == {"no process of shipping holds lanes 1, 2"}


def late(number: int) -> Late:
    facts = ("ShipmentBooked", "ShipmentRejected")
    return Late(f"o-{number}", "shop", "placed", "shipping", facts, NOON, 42.0, 0.2, NOON + timedelta(minutes=15))


def test_orders_are_told_by_what_holds_them_up_then_one_by_one():
    reason = Why("no process of shipping holds lane 2", "pavane run shipping")
    found = Found([(late(number), reason) for number in range(3)], {}, 3, NOON + timedelta(seconds=42))

    said = "\n".join(lines(found, most=2))

    assert "3 orders are overdue, the first for 42 s." in said
    assert "3 orders for shipping: no process of shipping holds lane 2\n    pavane run shipping" in said
    assert "... and 1 more" in said
    assert "14 min" in said
    assert msgspec.json.decode(_document(found))["overdue"][0]["remedy"] == "pavane run shipping"


def test_that_nothing_is_overdue_is_said():
    assert lines(Found([], {}, 2, NOON), most=20) == ["No order is overdue; 2 orders under way for some seconds."]
