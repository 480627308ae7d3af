"""Orders: every row of its canvas, and what comes too late."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from streams.kit.events import Due, Heard
from streams.kit.money import Money
from streams.kit.testing import Given, Story
from streams.orders.events import (
    Address,
    CancellationReason,
    CancellationRefused,
    CancelOrder,
    OrderCancelled,
    OrderConfirmed,
    OrderLine,
    OrderPlaced,
    OrderRejected,
    PaymentCaptured,
    PaymentDeclined,
    PlaceOrder,
    PricedLine,
    PriceSet,
    RefusalReason,
    RejectionReason,
    SetPrice,
    ShipmentRejected,
    StockRejected,
)
from streams.orders.model import Order, Price, Status
from streams.orders.pricing import HIGHEST_PRICE_MINOR
from streams.orders.service import orders

ORDER = "0190a000-0000-7000-8000-000000000001"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ADDRESS = Address(recipient="Ada", street="Main 1", postal_code="10115", city="Berlin", country="DE")
given = Given(orders, key=ORDER)


def euros(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency="EUR")


def price(sku: str, amount: Money, request_id: str = "r1", tenant: str = "shop") -> PriceSet:
    return PriceSet(tenant=tenant, sku=sku, price=amount, request_id=request_id)


def asked(*lines: tuple[str, int], **other: object) -> PlaceOrder:
    place = PlaceOrder(
        tenant="shop",
        order_id=ORDER,
        customer="c1",
        lines=tuple(OrderLine(sku=sku, quantity=quantity) for sku, quantity in lines or (("lamp", 2),)),
        currency="EUR",
        payment_method="card-ok",
        ship_to=ADDRESS,
        at=NOON,
    )
    return replace(place, **other)


PLACED = OrderPlaced(
    tenant="shop",
    order_id=ORDER,
    customer="c1",
    lines=(PricedLine(sku="lamp", quantity=2, unit_price_minor=500),),
    total=euros(1000),
    payment_method="card-ok",
    ship_to=ADDRESS,
    deadline=NOON + timedelta(minutes=15),
)
REJECTED = OrderRejected(
    tenant="shop", order_id=ORDER, customer="c1", reason=RejectionReason.NOT_PRICED, detail="no price is set for lamp"
)
CONFIRMED = OrderConfirmed(tenant="shop", order_id=ORDER)
CANCEL = CancelOrder(tenant="shop", order_id=ORDER)
DUE = Due(at=NOON + timedelta(minutes=15))
CAPTURED = PaymentCaptured(order_id=ORDER)
FAILURES: list[tuple[Heard | Due, CancellationReason]] = [
    (StockRejected(order_id=ORDER), CancellationReason.OUT_OF_STOCK),
    (PaymentDeclined(order_id=ORDER), CancellationReason.PAYMENT_DECLINED),
    (ShipmentRejected(order_id=ORDER), CancellationReason.NOT_SHIPPABLE),
    (CANCEL, CancellationReason.CUSTOMER),
    (DUE, CancellationReason.DEADLINE),
]


def cancelled(reason: CancellationReason) -> OrderCancelled:
    return OrderCancelled(tenant="shop", order_id=ORDER, reason=reason)


def rejection(story: Story) -> tuple[RejectionReason, str]:
    """The reason and detail of the rejection that was just said."""
    (said,) = story.said
    assert isinstance(said, OrderRejected)
    return said.reason, said.detail


# -- placing ---------------------------------------------------------------------------------------------------------


def test_an_order_is_placed_at_the_shops_own_prices_with_a_deadline_after_fifteen_minutes() -> None:
    given(price("lamp", euros(500))).when(asked(("lamp", 2))).then(PLACED)


def test_a_placed_order_is_due_at_its_deadline_in_its_partition() -> None:
    story = Given(orders, partition=3)(price("lamp", euros(500))).when(asked())
    story.remembers(status=Status.PLACED, due_at=PLACED.deadline, partition=3, amount_minor=1000, currency="EUR")


def test_an_item_may_occur_on_several_lines() -> None:
    given(price("lamp", euros(500))).when(asked(("lamp", 1), ("lamp", 1))).then(
        replace(PLACED, lines=(PricedLine(sku="lamp", quantity=1, unit_price_minor=500),) * 2)
    )


def test_a_free_order_is_placed() -> None:
    given(price("lamp", euros(0))).when(asked()).then(
        replace(PLACED, lines=(PricedLine(sku="lamp", quantity=2, unit_price_minor=0),), total=euros(0))
    )


def test_an_order_known_already_is_not_placed_again_whatever_is_asked() -> None:
    for known in (PLACED, REJECTED):
        given(price("lamp", euros(700)), known).when(asked(("lamp", 9))).then()


def test_a_price_of_another_shop_is_no_price() -> None:
    story = given(price("lamp", euros(500), tenant="other")).when(asked())
    assert rejection(story) == (RejectionReason.NOT_PRICED, "no price is set for lamp")


def test_every_item_without_a_price_is_named_once() -> None:
    story = given(price("lamp", euros(500))).when(asked(("lamp", 1), ("bulb", 1), ("desk", 1), ("bulb", 2)))
    assert rejection(story) == (RejectionReason.NOT_PRICED, "no price is set for bulb, desk")


@pytest.mark.parametrize(("items", "told"), [(5, ""), (6, " and 1 more"), (11, " and 6 more")])
def test_of_many_items_without_a_price_five_are_named_and_the_rest_counted(items: int, told: str) -> None:
    story = given().when(asked(*((f"sku{number}", 1) for number in range(items))))
    assert rejection(story)[1] == f"no price is set for sku0, sku1, sku2, sku3, sku4{told}"


@pytest.mark.parametrize("other", ["CHF", "USD"])
def test_an_item_sold_in_another_currency_rejects_the_order(other: str) -> None:
    story = given(price("lamp", Money(amount_minor=5, currency=other))).when(asked())
    assert rejection(story) == (RejectionReason.WRONG_CURRENCY, "not sold in EUR: lamp")


def test_equal_texts_of_two_records_are_the_same() -> None:
    """As they come off the log: equal, and not the same object."""
    other = {"order_id": "".join(list(ORDER)), "currency": "".join(["E", "UR"])}
    given(price("lamp", euros(500))).when(asked(**other), key=ORDER).then(PLACED).when(
        replace(CANCEL, order_id="".join(list(ORDER)), tenant="".join(["sh", "op"]))
    ).then(cancelled(CancellationReason.CUSTOMER))
    again = set_price(euros(900), "".join(["r", "1"]))
    given(price("lamp", euros(500), "".join(["r", "1"]))).when(again).then()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"lines": ()}, "1 to 100 lines, this one has 0"),
        ({"lines": (OrderLine(sku="lamp", quantity=1),) * 101}, "1 to 100 lines, this one has 101"),
        ({"lines": (OrderLine(sku="lamp", quantity=0),)}, "line 1: the quantity is 1 to 10,000, not 0"),
        ({"lines": (OrderLine(sku="lamp", quantity=10_001),)}, "line 1: the quantity is 1 to 10,000, not 10001"),
        ({"lines": (OrderLine(sku="", quantity=1),)}, "line 1: the sku is empty"),
        ({"lines": (OrderLine(sku="a\x00b", quantity=1),)}, "line 1: the sku is empty, too long or holds control"),
        ({"currency": "eur"}, "the currency is not an ISO 4217 code"),
        ({"payment_method": "x" * 129}, "the payment method is empty, too long"),
        ({"ship_to": replace(ADDRESS, city="Ber\x00lin")}, "the address's city is empty, too long or holds control"),
    ],
)
def test_an_invalid_request_is_rejected_and_told_what_is_wrong(wrong: dict[str, object], told: str) -> None:
    reason, detail = rejection(given(price("lamp", euros(500))).when(asked(**wrong)))
    assert reason is RejectionReason.INVALID
    assert told in detail


def test_the_largest_order_is_placed_and_fits_64_bits() -> None:
    lines = [(f"sku{n}", 10_000) for n in range(100)]
    prices = [price(sku, euros(HIGHEST_PRICE_MINOR)) for sku, _ in lines]
    (placed,) = given(*prices).when(asked(*lines)).said
    assert isinstance(placed, OrderPlaced)
    assert placed.total.amount_minor == 100 * 10_000 * HIGHEST_PRICE_MINOR < 2**63


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"order_id": "not-a-uuid"}, "not-a-uuid"),
        ({"order_id": ORDER.upper()}, ORDER.upper()),
        ({}, "0190a000-0000-7000-8000-000000000000"),
        ({}, "0190a000-0000-7000-8000-000000000002"),
        ({"tenant": "a/b"}, ORDER),
        ({"tenant": "a\x00"}, ORDER),
        ({"customer": ""}, ORDER),
    ],
)
def test_a_request_that_nobody_can_be_answered_about_is_refused(wrong: dict[str, object], key: str) -> None:
    given(price("lamp", euros(500))).when(asked(**wrong), key=key).refused()


# -- ending ----------------------------------------------------------------------------------------------------------


def test_a_captured_payment_confirms_the_order_and_clears_its_deadline() -> None:
    given(PLACED).when(CAPTURED).then(CONFIRMED).remembers(status=Status.CONFIRMED, due_at=None)


@pytest.mark.parametrize(("failure", "reason"), FAILURES)
def test_a_failure_cancels_an_open_order_and_clears_its_deadline(
    failure: Heard | Due, reason: CancellationReason
) -> None:
    given(PLACED).when(failure).then(cancelled(reason)).remembers(status=Status.CANCELLED, due_at=None)


@pytest.mark.parametrize("late", [CAPTURED, *(failure for failure, _ in FAILURES)])
@pytest.mark.parametrize(("first", "reason"), FAILURES)
def test_nothing_changes_a_cancelled_order(first: Heard | Due, reason: CancellationReason, late: Heard | Due) -> None:
    given(PLACED).when(first).then(cancelled(reason)).when(late).then()


@pytest.mark.parametrize("late", [CAPTURED, *(failure for failure, _ in FAILURES if failure is not CANCEL)])
def test_nothing_cancels_a_confirmed_order(late: Heard | Due) -> None:
    given(PLACED, CONFIRMED).when(late).then()


@pytest.mark.parametrize("early", [CAPTURED, *(failure for failure, _ in FAILURES if failure is not CANCEL)])
def test_an_order_never_placed_is_neither_confirmed_nor_cancelled(early: Heard | Due) -> None:
    given().when(early).then()
    given(REJECTED).when(early).then()


# -- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_a_confirmed_order_is_refused_once() -> None:
    refusal = CancellationRefused(tenant="shop", order_id=ORDER, reason=RefusalReason.ALREADY_CONFIRMED)
    given(PLACED, CONFIRMED).when(CANCEL).then(refusal).when(CANCEL).then()


def test_cancelling_a_rejected_order_is_refused_once() -> None:
    refusal = CancellationRefused(tenant="shop", order_id=ORDER, reason=RefusalReason.ALREADY_REJECTED)
    given(REJECTED).when(CANCEL).then(refusal).when(CANCEL).then()


def test_a_cancellation_before_its_order_is_refused_and_does_not_stop_the_order() -> None:
    story = given(price("lamp", euros(500))).when(CANCEL)
    story.refused("place it first").when(asked()).then(PLACED)


@pytest.mark.parametrize("tenant", ["other", "the-shop-next-door"])
def test_another_shop_cannot_cancel_an_order(tenant: str) -> None:
    given(PLACED).when(replace(CANCEL, tenant=tenant)).refused("another shop")


@pytest.mark.parametrize("last_digit", ["0", "2"])
def test_a_cancellation_under_another_key_is_refused(last_digit: str) -> None:
    given(PLACED).when(replace(CANCEL, order_id=ORDER[:-1] + last_digit), key=ORDER).refused("key")


# -- prices ----------------------------------------------------------------------------------------------------------


def set_price(amount: Money, request_id: str = "r1", **other: object) -> SetPrice:
    return replace(SetPrice(tenant="shop", sku="lamp", price=amount, request_id=request_id, at=NOON), **other)


def as_of(minutes: float, amount: Money, request_id: str, comes_after: float = 0) -> SetPrice:
    """Asked so many minutes after noon, and so many later on the log."""
    then = NOON + timedelta(minutes=minutes)
    return set_price(amount, request_id, as_of=then, at=then + timedelta(minutes=comes_after))


def test_a_price_is_set_and_remembered_by_item() -> None:
    story = given().when(set_price(euros(500))).then(price("lamp", euros(500)))
    assert story.row(Price, "shop/lamp") == Price(
        item="shop/lamp", amount_minor=500, currency="EUR", request_id="r1"
    )


def test_a_new_price_replaces_the_old_one_also_in_another_currency() -> None:
    dollars = Money(amount_minor=500, currency="USD")
    given(price("lamp", euros(500))).when(set_price(dollars, "r2")).then(price("lamp", dollars, "r2"))


def test_the_last_request_again_and_the_price_it_has_change_nothing() -> None:
    given(price("lamp", euros(500), "r1")).when(set_price(euros(900), "r1")).then()
    given(price("lamp", euros(500), "r1")).when(set_price(euros(500), "r2")).then()


def test_a_price_that_comes_after_one_that_was_asked_for_later_changes_nothing() -> None:
    later = given().when(as_of(10, euros(1299), "r2"))
    later.when(as_of(0, euros(1999), "r1", comes_after=180)).then()
    again = given().when(as_of(0, euros(1999), "r1")).when(as_of(10, euros(1299), "r2"))
    again.when(as_of(0, euros(1999), "r1", comes_after=20)).then()


def test_a_price_that_was_set_once_more_is_not_changed_by_what_was_asked_between() -> None:
    confirmed = given().when(as_of(0, euros(1299), "r1")).when(as_of(10, euros(1299), "r3"))
    confirmed.then(replace(price("lamp", euros(1299), "r3"), as_of=NOON + timedelta(minutes=10)))
    confirmed.when(as_of(5, euros(1999), "r2", comes_after=180)).then()


def test_a_sender_whose_clock_is_ahead_shuts_nobody_out() -> None:
    ahead = given().when(as_of(600, euros(1999), "r1", comes_after=-600))
    ahead.when(as_of(1, euros(1299), "r2")).then(
        replace(price("lamp", euros(1299), "r2"), as_of=NOON + timedelta(minutes=1))
    )


def test_a_price_that_says_no_time_is_set_when_it_comes_and_lets_nothing_older_pass() -> None:
    story = given().when(as_of(10, euros(1299), "r1")).when(set_price(euros(1499), "r2"))
    story.then(price("lamp", euros(1499), "r2"))
    story.when(as_of(5, euros(1999), "r3", comes_after=180)).then()


def test_an_order_keeps_the_price_it_was_placed_at() -> None:
    story = given(price("lamp", euros(500))).when(asked()).then(PLACED)
    story.when(set_price(euros(900), "r2")).then(price("lamp", euros(900), "r2"))
    assert story.row(Order, ORDER).amount_minor == 1000


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (set_price(euros(-1)), "not -1"),
        (set_price(euros(HIGHEST_PRICE_MINOR + 1)), "a price is 0 to"),
        (set_price(Money(amount_minor=1, currency="Euro")), "the currency"),
        (set_price(euros(1), request_id=""), "request id"),
        (set_price(euros(1), tenant="a/b"), "tenant"),
        (set_price(euros(1), sku="\x00"), "sku"),
    ],
)
def test_a_wrong_price_is_refused(wrong: SetPrice, told: str) -> None:
    given().when(wrong).refused(told)


@pytest.mark.parametrize("key", ["shop/desk", "shop/rug"])
def test_a_price_under_another_key_is_refused(key: str) -> None:
    given().when(set_price(euros(1)), key=key).refused("key")


def test_a_price_is_from_nothing_to_a_million_million() -> None:
    for amount in (euros(0), euros(1_000_000_000_000)):
        given(price("lamp", euros(500), "r0")).when(set_price(amount)).then(price("lamp", amount))
    given().when(set_price(euros(1_000_000_000_001))).refused("a price is 0 to 1,000,000,000,000 minor units")
