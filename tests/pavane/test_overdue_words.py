"""Why an order is late: the first thing that is known to hold it up, and the command that helps."""

from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec
import psycopg
import pytest

from api.late import Late
from pavane.lanes.holding import Held
from pavane.lanes.listing import Lane
from pavane.operators.errors import DatabaseUnreadable
from pavane.operators.reach import Reach
from pavane.overdue.looking import Found
from pavane.overdue.reasons import LOG_AWAY, LOG_BACK, Known, Waiting, Why, behind, why
from pavane.overdue.telling import _document, lines
from pavane.overdue.unheard import Unheard, unheard
from streams.kit.errors import BreakerOpen

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HELD: Held = {"shipping": {2}, "timeline": set()}
NOBODY: Held = {"shipping": set(), "timeline": set()}
PARKED = Waiting("shipping/2/7", "Unanswered", "carrier: no answer within 2 s", 3, NOON)
BROKEN = PARKED._replace(message=str(BreakerOpen("carrier", 8.1, 5, "no answer", 2.0)))


def lane(service: str = "shipping", **changes: object) -> Lane:
    return Lane(service, 2, 5, {}, {}, None, 0, 0, {})._replace(**changes)  # type: ignore[arg-type]


def known(*lanes: Lane, held: bool = True, parked: Waiting | None = None) -> Known:
    found = {("shipping", "o-1"): parked} if parked else {}
    return Known({(each.service, each.partition): each for each in lanes}, HELD if held else NOBODY, found)


CUE = "billing/2/9"
HEARD = lane(clock={"billing": 9})


@pytest.mark.parametrize(
    ("found", "words", "command"),
    [
        (known(lane(), parked=PARKED), "tried again by itself: Unanswered", "show shipping/2/7"),
        (known(lane(), parked=BROKEN), "the breaker of carrier is open", "redrive --service shipping"),
        (known(lane(), parked=PARKED._replace(retry_at=None)), "until somebody decides", "show shipping/2/7"),
        (known(lane(halted="a gap")), "its lane is halted", "pavane lanes list shipping"),
        (known(lane(), held=False), "no process of shipping holds lane 2", "pavane run shipping"),
        (known()._replace(away={"shipping": "gone"}), "its database cannot be asked", "bring PostgreSQL back"),
        (
            known()._replace(away={"shipping": "gone"}, lost={"shipping"}),
            "its database is lost",
            "pavane rebuild shipping --swap",
        ),
        (known(HEARD)._replace(held=None, log_away="no answer"), "Kafka does not answer", "start its brokers"),
        (known(lane(halted="a gap"))._replace(log_away="no answer"), "its lane is halted", "pavane lanes list"),
        (known(lane(clock={"billing": 8})), "its lane is behind", "pavane lanes list shipping"),
        (known(HEARD)._replace(unsaid={("shipping", "o-1")}), "has decided and cannot say it", "pavane lanes list"),
        (known(HEARD)._replace(stale={2}), "the timeline has yet to hear it", "pavane run timeline"),
        (known(HEARD), "nothing is known", "pavane audit"),
    ],
)  # fmt: skip
def test_the_reason_names_what_holds_the_order_up_and_the_command_that_helps(found: Known, words: str, command: str):
    reason = why(found, "shipping", "o-1", 2, [CUE])

    assert words in reason.reason
    assert command in reason.remedy


def test_a_lane_that_has_heard_what_the_order_waits_for_is_not_behind_for_it_whatever_else_there_is_to_hear():
    busy = lane(clock={"billing": 9, "orders": 3}, to_hear={"orders": 40, "billing": 2}, to_say=7)
    later = lane("timeline", to_hear={"shipping": 1})

    assert why(known(busy, later), "shipping", "o-1", 2, [CUE]).remedy == "pavane audit"


def test_any_one_of_several_cues_is_enough():
    heard = known(lane(clock={"billing": 9}))

    assert why(heard, "shipping", "o-1", 2, ["inventory/2/4", CUE]).remedy == "pavane audit"


def test_without_an_answer_of_kafka_nobody_is_said_to_be_missing():
    found = known(lane(), held=False)._replace(held=None)

    assert why(found, "shipping", "o-1", 2).remedy == "pavane audit"


def test_while_lanes_are_just_shared_out_nobody_is_said_to_be_missing():
    found = known(lane())._replace(held={})

    assert why(found, "shipping", "o-1", 2).remedy == "pavane audit"


def test_a_database_that_may_come_back_is_made_again_only_if_it_is_lost():
    away = why(known()._replace(away={"shipping": "no answer"}), "shipping", "o-1", 2)

    assert away.remedy.startswith("bring PostgreSQL back, and nothing else")
    assert away.remedy.endswith("only if it is lost: 'pavane rebuild shipping --swap --reason ...'")


def test_a_database_that_does_not_exist_is_lost_and_one_that_does_not_answer_is_not():
    def unreadable(why: str) -> DatabaseUnreadable:
        return DatabaseUnreadable("billing", "PAVANE_DATABASE_BILLING", psycopg.OperationalError(why))

    assert unreadable('connection failed: FATAL:  database "billing" does not exist').lost
    assert not unreadable('connection failed: FATAL:  role "billing" does not exist').lost
    assert not unreadable("connection failed: Connection refused").lost
    assert not unreadable('FATAL:  database "billing" is not currently accepting connections').lost


def test_all_lanes_that_nobody_holds_are_one_reason():
    both = Known({("shipping", n): lane(partition=n) for n in (1, 2)}, {"shipping": set()}, {})

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
    assert "... and 1 more step that orders wait for" in said
    assert "14 min" in said
    assert msgspec.json.decode(_document(found))["overdue"][0]["remedy"] == "pavane run shipping"


def test_orders_that_are_parked_for_the_same_reason_are_one_reason_with_one_example():
    def waiting(number: int) -> Waiting:
        message = str(BreakerOpen("carrier", number / 7, number, f"no answer to o-{number}", number / 3))
        return Waiting(f"shipping/2/{number}", "Unanswered", message, number, NOON + timedelta(seconds=number))

    reasons = [why(known(lane(), parked=waiting(number)), "shipping", "o-1", 2) for number in range(1, 206)]
    found = Found([(late(number), each) for number, each in enumerate(reasons)], {}, 205, NOON)

    said = lines(found, most=2)

    assert "205 orders for shipping: the breaker of carrier is open: it did not answer, and is left alone" in said
    assert [line for line in said if "such as o-0: tried 1 times" in line]
    assert len(said) < 12


def test_however_many_reasons_there_are_the_listing_stays_short():
    found = Found([(late(number), Why(f"reason {number}", "pavane audit")) for number in range(500)], {}, 500, NOON)

    said = lines(found, most=2)

    assert "... and 480 more reasons (--json has them)" in said
    assert len(said) < 60


def test_that_nothing_is_overdue_is_said():
    assert lines(Found([], {}, 2, NOON), most=20) == ["No order is overdue; 2 orders under way for some seconds."]


def test_of_more_orders_than_are_looked_at_it_is_said_that_they_are_the_least():
    reason = Why("no process of shipping holds lane 2", "pavane run shipping")
    some = [(late(number), reason) for number in range(3)]

    assert lines(Found(some, {}, 3, NOON, more=True), most=1)[0] == "At least 3 orders are overdue, the first for 42 s."
    assert lines(Found([], {}, 3, NOON, more=True), most=1) == [
        "No order is overdue of the oldest; at least 3 orders under way for some seconds."
    ]


def test_what_waits_without_a_story_is_told_with_its_reason_though_no_order_is_known_to_be_overdue():
    nobody = Why("no process of orders holds lanes 0, 1", "pavane run orders")
    found = Found([], {}, 2, NOON, [Unheard("orders", "request", 37, 42.0, frozenset({0, 1}), nobody)])

    said = lines(found, most=20)

    assert said[0] == "No order that the timeline knows is overdue, of 2 orders under way. But:"
    assert said[2:] == [
        "orders has yet to hear 37 requests, the first for 42 s: no process of orders holds lanes 0, 1",
        "    pavane run orders",
    ]
    assert msgspec.json.decode(_document(found))["unheard"][0]["remedy"] == "pavane run orders"


@pytest.mark.parametrize(
    ("found", "words", "command"),
    [
        (known(lane(halted="a gap")), "its lane is halted", "pavane lanes list shipping"),
        (known(lane(), held=False), "no process of shipping holds lane 2", "pavane run shipping"),
        (known(held=False), "no process of shipping holds its lanes", "pavane run shipping"),
        (known(lane(to_hear={"billing": 3})), "its lane is behind", "pavane lanes list shipping"),
    ],
)  # fmt: skip
def test_a_lane_that_has_records_to_hear_is_halted_or_held_by_nobody_or_behind(found: Known, words: str, command: str):
    reason = behind(found, "shipping", 2)

    assert (reason.reason, reason.remedy) == (words, command)


def test_while_kafka_does_not_answer_it_is_not_asked_what_there_is_to_hear_and_that_is_told():
    nobody = known(lane())._replace(log_away="Kafka at 127.0.0.1:9 does not answer")

    found = unheard(cast("Reach", None), nobody, ["timeline", "orders"], NOON)

    assert {(each.service, each.why.reason) for each in found} == {("timeline", LOG_AWAY), ("orders", LOG_AWAY)}
    told = ["Kafka at 127.0.0.1:9 does not answer. What is in no story yet, nobody can count.", f"    {LOG_BACK}"]
    seen = Found([], {}, 2, NOON, found, log_away=nobody.log_away)
    assert lines(seen, most=20)[0] == "No order that the timeline knows is overdue, of 2 orders under way. But:"
    assert lines(seen, most=20)[2:] == told
    both = [(late(1), why(nobody, "shipping", "o-1", 2)), (late(2), why(nobody, "shipping", "o-2", 2))]
    said = lines(seen._replace(late=both), most=20)
    assert said[2:5] == [*told, "2 orders for shipping: Kafka does not answer: nothing is heard or said"]
    assert said.count(told[1]) == 1


def test_that_nobody_knows_what_a_service_without_its_database_has_to_hear_is_told():
    gone = Why("its database is lost", "pavane rebuild orders --swap --reason ...", "no such database")

    said = lines(Found([], {}, 0, NOON, [Unheard("orders", "request", 0, 0.0, frozenset(), gone)]), most=20)

    assert "Nobody knows which requests orders has yet to hear: its database is lost" in said
