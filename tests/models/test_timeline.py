"""The timeline's folds: what a sequence of facts makes of a story, its entries, a shelf and a price tag."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streams.kit.events import About, Heard
from streams.kit.money import Money
from streams.timeline import service as timeline
from streams.timeline.events import (
    CancellationRefused,
    InvoiceCancelled,
    InvoiceOpened,
    Line,
    Missing,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentVoided,
    PricedLine,
    PriceSet,
    ShipmentBooked,
    ShipmentPlanned,
    StockAdjusted,
    StockDispatched,
    StockReceived,
    StockRejected,
    StockReleased,
    StockReserved,
)
from streams.timeline.model import Entry, Shelf, Stage, Status, Story, StoryLine, Tag

ORDER = "0190a0b2-0000-7000-8000-000000000001"
F = TypeVar("F", bound=Heard)
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
EUROS_12 = Money(amount_minor=1200, currency="EUR")
LAMPS = (Line(sku="lamp", quantity=2),)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def about(fact: type[Heard], ordinal: int = 1, cause: str = "orders.requests/0/7") -> About:
    return About(
        id=f"{fact.topic}/0/{ordinal}",
        name=fact.__name__,
        speaker=fact.topic,
        cause=cause,
        correlation="c-1",
        ordinal=ordinal,
    )


def said(fact: type[F], seconds: float = 0, **fields: Any) -> F:
    """A fact of the order, said so many seconds after noon."""
    given = {"tenant": "shop", "order_id": ORDER, "at": at(seconds), "about": about(fact)}
    return fact(**{**given, **fields})


def order_placed(**fields: Any) -> OrderPlaced:
    lines = (PricedLine(sku="lamp", quantity=2, unit_price_minor=600),)
    given = {"customer": "c7", "lines": lines, "total": EUROS_12, "payment_method": "card-ok", "deadline": at(900)}
    return said(OrderPlaced, **{**given, **fields})


def told(*facts: Heard) -> Story:
    story = Story.new(ORDER)
    for fact in facts:
        story = timeline.evolve(story, fact)
    return story


def on_shelf(facts: Sequence[Heard], item: str = "shop/lamp") -> Shelf:
    """The shelf as the kit folds it: each fact into every row that it names."""
    shelf = Shelf.new(item)
    for fact in facts:
        for evolution in timeline.evolutions[type(fact)]:
            if evolution.state is Shelf and item in evolution.keys_of(fact, ORDER):
                shelf = evolution.evolve(shelf, fact)
    return shelf


HAPPY = (
    order_placed(),
    said(InvoiceOpened, 1, amount=EUROS_12, payment_method="card-ok"),
    said(ShipmentPlanned, 1, items=2),
    said(StockReserved, 2, lines=LAMPS),
    said(PaymentAuthorized, 3, amount=EUROS_12, reference="p1"),
    said(ShipmentBooked, 4, reference="s1"),
    said(PaymentCaptured, 5, amount=EUROS_12, reference="p1"),
    said(OrderConfirmed, 6),
    said(StockDispatched, 7, lines=LAMPS),
)


def test_a_placed_order_shows_its_owner_its_lines_and_its_total():
    story = told(order_placed())

    assert (story.tenant, story.customer, story.status, story.stage) == ("shop", "c7", Status.PLACED, Stage.PLACED)
    assert story.lines == (StoryLine(sku="lamp", quantity=2, unit_price_minor=600),)
    assert (story.total_minor, story.currency, story.placed_at, story.settled_at) == (1200, "EUR", NOON, None)


def test_a_happy_order_goes_through_every_stage():
    stages = [told(*HAPPY[: count + 1]).stage for count in range(len(HAPPY))]

    assert list(dict.fromkeys(stages)) == list(Stage)[1:]


def test_a_happy_order_is_confirmed_when_the_money_is_in_and_told_to_its_end():
    story = told(*HAPPY)

    assert (story.status, story.settled_at) == (Status.CONFIRMED, at(6))
    assert (story.length, story.updated_at) == (9, at(7))


def test_a_rejected_order_is_settled_at_once_and_belongs_to_its_customer():
    story = told(said(OrderRejected, customer="c7", reason="NOT_PRICED", detail="no price for lamp"))

    assert (story.status, story.stage, story.reason, story.customer) == (
        Status.REJECTED,
        Stage.ASKED,
        "NOT_PRICED",
        "c7",
    )
    assert story.placed_at == story.settled_at == NOON


def test_a_cancelled_order_keeps_its_reason_and_the_furthest_stage():
    story = told(
        *HAPPY[:5],
        said(OrderCancelled, 6, reason="CUSTOMER"),
        said(StockReleased, 7, lines=LAMPS),
        said(PaymentVoided, 8, reference="p1"),
    )

    assert (story.status, story.reason, story.stage) == (Status.CANCELLED, "CUSTOMER", Stage.AUTHORIZED)
    assert (story.settled_at, story.updated_at) == (at(6), at(8))


def test_what_happened_at_the_same_time_as_a_cancellation_does_not_undo_it():
    story = told(
        order_placed(),
        said(OrderCancelled, 1, reason="CUSTOMER"),
        said(StockReserved, 1, lines=LAMPS),
        said(StockReleased, 2, lines=LAMPS),
        said(InvoiceCancelled, 2),
    )

    assert (story.status, story.settled_at, story.stage) == (Status.CANCELLED, at(1), Stage.RESERVED)


def test_a_refused_cancellation_leaves_the_order_confirmed():
    story = told(*HAPPY, said(CancellationRefused, 9, reason="ALREADY_CONFIRMED"))

    assert (story.status, story.reason, story.length) == (Status.CONFIRMED, "", 10)


def test_an_answer_stamped_before_its_question_does_not_turn_the_clock_back():
    story = told(order_placed(at=at(5)), said(StockReserved, 3, lines=LAMPS))

    assert story.updated_at == at(5)


@given(st.permutations([fact.topic for fact in HAPPY]))
def test_a_story_is_the_same_however_the_speakers_are_heard_among_each_other(speakers: list[str]):
    left = {topic: [fact for fact in HAPPY if fact.topic == topic] for topic in speakers}

    assert told(*(left[speaker].pop(0) for speaker in speakers)) == told(*HAPPY)


def test_an_entry_says_who_said_what_when_and_why():
    fact = said(StockReserved, 2, lines=LAMPS, about=about(StockReserved, ordinal=12, cause="orders/0/4"))

    entry = timeline.evolve(Entry.new("inventory/0/12"), fact)

    assert entry == Entry(
        id="inventory/0/12",
        order_id=ORDER,
        ordinal=12,
        fact="StockReserved",
        speaker="inventory",
        at=at(2),
        cause="orders/0/4",
        correlation="c-1",
        detail=msgspec.Raw(b'{"lines":[{"sku":"lamp","quantity":2}]}'),
    )


def test_an_entry_tells_what_was_missing():
    fact = said(StockRejected, missing=(Missing(sku="lamp", requested=2, available=1),))

    entry = timeline.evolve(Entry.new("inventory/0/1"), fact)

    assert msgspec.json.decode(entry.detail) == {"missing": [{"sku": "lamp", "requested": 2, "available": 1}]}


def test_no_personal_data_reaches_an_entry():
    entry = timeline.evolve(Entry.new("orders/0/1"), order_placed())

    assert set(msgspec.json.decode(entry.detail)) == {"lines", "total", "payment_method", "deadline"}


def test_every_fact_of_an_order_becomes_an_entry_under_its_own_id():
    for fact in HAPPY:
        (evolution,) = [e for e in timeline.evolutions[type(fact)] if e.state is Entry]

        assert list(evolution.keys_of(fact, ORDER)) == [fact.about.id]


def test_entries_are_json_that_a_database_takes():
    for fact in HAPPY:
        entry = timeline.evolve(Entry.new(fact.about.id), fact)

        assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry


def test_goods_move_over_the_shelf():
    received = StockReceived(tenant="shop", sku="lamp", quantity=10)
    reserved, released = said(StockReserved, lines=LAMPS), said(StockReleased, lines=LAMPS)

    assert on_shelf([received]) == Shelf(item="shop/lamp", available=10)
    assert on_shelf([received, reserved]) == Shelf(item="shop/lamp", available=8, reserved=2)
    assert on_shelf([received, reserved, released]) == Shelf(item="shop/lamp", available=10)
    dispatched = said(StockDispatched, lines=LAMPS)
    assert on_shelf([received, reserved, dispatched]) == Shelf(item="shop/lamp", available=8, dispatched=2)


def test_two_lines_of_one_sku_are_counted_together_and_once():
    reserved = said(StockReserved, lines=(*LAMPS, Line(sku="lamp", quantity=3), Line(sku="bulb", quantity=1)))

    assert on_shelf([reserved]).reserved == 5
    (evolution,) = [e for e in timeline.evolutions[StockReserved] if e.state is Shelf]
    assert list(evolution.keys_of(reserved, ORDER)) == ["shop/lamp", "shop/bulb"]


@given(st.permutations(range(4)))
def test_a_shelf_is_the_same_in_whatever_order_partitions_are_heard(order: list[int]):
    facts: list[Heard] = [
        StockReceived(tenant="shop", sku="lamp", quantity=10),
        StockAdjusted(tenant="shop", sku="lamp", quantity=-1),
        said(StockReserved, lines=LAMPS),
        said(StockDispatched, lines=LAMPS),
    ]

    shelf = on_shelf([facts[place] for place in order])

    assert shelf == Shelf(item="shop/lamp", available=7, reserved=0, dispatched=2)


def test_the_last_price_is_on_the_tag():
    fact = PriceSet(tenant="shop", sku="lamp", price=Money(amount_minor=600, currency="EUR"))
    (evolution,) = timeline.evolutions[PriceSet]

    assert list(evolution.keys_of(fact, "")) == ["shop/lamp"]
    tag = evolution.evolve(Tag(item="shop/lamp", amount_minor=500, currency="EUR"), fact)
    assert tag == Tag(item="shop/lamp", amount_minor=600, currency="EUR")


def test_the_timeline_hears_every_topic_and_says_nothing():
    assert timeline.topics == ("billing", "inventory", "orders", "shipping")
    assert timeline.is_projection
