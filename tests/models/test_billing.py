"""Billing: every row of its canvas, and a cancellation at every moment of a payment."""

import pytest

from streams.billing.events import (
    BillingFact,
    InvoiceCancelled,
    InvoiceOpened,
    OrderCancelled,
    OrderPlaced,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRefunded,
    PaymentVoided,
    ShipmentBooked,
    StockReserved,
)
from streams.billing.model import Status
from streams.billing.provider import (
    Authorized,
    AuthorizePayment,
    Captured,
    CapturePayment,
    Declined,
    NothingToReverse,
    Refunded,
    ReversePayment,
    Voided,
)
from streams.billing.service import billing
from streams.kit.events import Answer, Heard
from streams.kit.money import Money
from streams.kit.testing import Given

ORDER = "0190a000-0000-7000-8000-000000000001"
AMOUNT, FREE = Money(amount_minor=1000, currency="EUR"), Money(amount_minor=0, currency="EUR")
given = Given(billing)


def opened(amount: Money = AMOUNT) -> InvoiceOpened:
    return InvoiceOpened(tenant="shop", order_id=ORDER, amount=amount, payment_method="card-ok")


def authorized(amount: Money = AMOUNT, reference: str = "ref-1") -> PaymentAuthorized:
    return PaymentAuthorized(tenant="shop", order_id=ORDER, amount=amount, reference=reference)


def captured(amount: Money = AMOUNT, reference: str = "ref-1") -> PaymentCaptured:
    return PaymentCaptured(tenant="shop", order_id=ORDER, amount=amount, reference=reference)


DECLINED = PaymentDeclined(tenant="shop", order_id=ORDER, reason="no money")
VOIDED = PaymentVoided(tenant="shop", order_id=ORDER, reference="ref-1")
REFUNDED = PaymentRefunded(tenant="shop", order_id=ORDER, amount=AMOUNT, reference="ref-1")
CANCELLED = InvoiceCancelled(tenant="shop", order_id=ORDER)

ORDER_PLACED = OrderPlaced(tenant="shop", order_id=ORDER, total=AMOUNT, payment_method="card-ok")
ORDER_CANCELLED = OrderCancelled(order_id=ORDER)
RESERVED = StockReserved(order_id=ORDER)
BOOKED = ShipmentBooked(order_id=ORDER)

AUTHORIZE = AuthorizePayment(order_id=ORDER, amount=AMOUNT, method="card-ok")
CAPTURE = CapturePayment(order_id=ORDER, amount=AMOUNT)
REVERSE = ReversePayment(order_id=ORDER)

UNDER_WAY: list[list[BillingFact]] = [
    [opened()],
    [opened(), authorized()],
    [opened(), DECLINED],
    [opened(), authorized(), DECLINED],
    [opened(), authorized(), captured()],
]
REVERSALS: list[tuple[Answer, BillingFact]] = [
    (Voided(reference="ref-1"), VOIDED),
    (Refunded(reference="ref-1", amount=AMOUNT), REFUNDED),
    (NothingToReverse(), CANCELLED),
]


def test_a_placed_order_opens_one_invoice() -> None:
    given().when(ORDER_PLACED).then(opened()).when(ORDER_PLACED).then()


def test_money_is_asked_for_once_the_goods_are_set_aside() -> None:
    story = given(opened()).when(RESERVED).then(AUTHORIZE)
    story.answered(Authorized(reference="ref-1")).then(authorized()).remembers(status=Status.AUTHORIZED)


def test_declined_money_is_told() -> None:
    story = given(opened()).when(RESERVED).then(AUTHORIZE)
    story.answered(Declined(reason="no money")).then(DECLINED).remembers(status=Status.DECLINED)


def test_money_is_taken_once_a_carrier_has_the_parcel() -> None:
    story = given(opened(), authorized()).when(BOOKED).then(CAPTURE)
    story.answered(Captured(reference="ref-2")).then(captured(reference="ref-2"))
    story.remembers(status=Status.CAPTURED, reference="ref-2")


def test_money_refused_at_capture_is_told() -> None:
    given(opened(), authorized()).when(BOOKED).answered(Declined(reason="no money")).then(DECLINED)


def test_money_is_asked_for_and_taken_once() -> None:
    given(opened(), authorized()).when(RESERVED).then()
    given(opened(), authorized(), captured()).when(BOOKED).then()


def test_nothing_is_taken_that_was_not_authorized() -> None:
    for facts in ([], [opened()], [opened(), DECLINED]):
        given(*facts).when(BOOKED).then()


def test_a_free_order_is_paid_without_asking_anybody() -> None:
    given(opened(FREE)).when(RESERVED).then(authorized(FREE, "free"))
    given(opened(FREE), authorized(FREE, "free")).when(BOOKED).then(captured(FREE, "free"))


@pytest.mark.parametrize(
    "facts",
    [
        [opened(FREE)],
        [opened(FREE), authorized(FREE, "free")],
        [opened(FREE), authorized(FREE, "free"), captured(FREE, "free")],
    ],
)
def test_a_free_order_is_cancelled_without_asking_anybody(facts: list[BillingFact]) -> None:
    story = given(*facts).when(ORDER_CANCELLED).then(CANCELLED)
    story.when(ORDER_CANCELLED).then().when(RESERVED).then().when(BOOKED).then()


@pytest.mark.parametrize("facts", UNDER_WAY)
@pytest.mark.parametrize(("answer", "fact"), REVERSALS)
def test_a_cancellation_always_asks_to_reverse_and_says_what_the_provider_answers(
    facts: list[BillingFact], answer: Answer, fact: BillingFact
) -> None:
    # Also when the invoice knows of no authorization: the batch that asked for one may have been lost.
    given(*facts).when(ORDER_CANCELLED).then(REVERSE).answered(answer).then(fact)


@pytest.mark.parametrize("settled", [VOIDED, REFUNDED, CANCELLED])
@pytest.mark.parametrize("late", [ORDER_PLACED, RESERVED, BOOKED, ORDER_CANCELLED])
def test_nothing_changes_a_settled_invoice(settled: BillingFact, late: Heard) -> None:
    given(opened(), settled).when(late).then()


def test_a_cancellation_of_an_order_that_billing_never_saw_changes_nothing() -> None:
    given().when(ORDER_CANCELLED).then()


def test_all_questions_about_one_order_bear_one_key() -> None:
    assert AUTHORIZE.key == CAPTURE.key == REVERSE.key == f"payment/{ORDER}"
