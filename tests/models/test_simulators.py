"""The simulated provider and carrier keep what their ports promise, whatever they are asked and in whatever order."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.billing import provider
from streams.billing import simulator as payments
from streams.billing.provider import (
    Authorized,
    AuthorizePayment,
    Captured,
    CapturePayment,
    Declined,
    NothingToReverse,
    PaymentEffect,
    Refunded,
    ReversePayment,
    Voided,
)
from streams.kit.events import Answer
from streams.kit.money import Money
from streams.shipping import carrier
from streams.shipping import simulator as bookings
from streams.shipping.carrier import (
    Booked,
    BookingCancelled,
    BookShipment,
    CancelBooking,
    NotBooked,
    NothingBooked,
    ShipmentEffect,
)
from streams.shipping.events import Address

ORDER = "0190a000-0000-7000-8000-000000000001"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AMOUNT = Money(amount_minor=1000, currency="EUR")
CAPTURE = CapturePayment(order_id=ORDER, amount=AMOUNT)
REVERSE = ReversePayment(order_id=ORDER)
CANCEL = CancelBooking(order_id=ORDER)


def authorize(method: str = "card-ok") -> AuthorizePayment:
    return AuthorizePayment(order_id=ORDER, amount=AMOUNT, method=method)


def book(postal_code: str = "10115", country: str = "DE") -> BookShipment:
    address = Address(recipient="Ada", street="Main 1", postal_code=postal_code, city="Berlin", country=country)
    return BookShipment(order_id=ORDER, ship_to=address, items=1)


def provider_answers(*effects: PaymentEffect) -> tuple[list[Answer], payments.Payment]:
    payment, answers = payments.Payment(key=f"payment/{ORDER}", order_id=ORDER), []
    for effect in effects:
        payment, answer = payments.answer(payment, effect, NOON)
        answers.append(answer)
    return answers, payment


def carrier_answers(*effects: ShipmentEffect) -> tuple[list[Answer], bookings.Booking]:
    booking, answers = bookings.Booking(key=f"shipment/{ORDER}", order_id=ORDER), []
    for effect in effects:
        booking, answer = bookings.answer(booking, effect, NOON)
        answers.append(answer)
    return answers, booking


def kinds(answers: Sequence[Answer]) -> list[type[Answer]]:
    return [type(answer) for answer in answers]


def test_who_gives_no_address_is_told_that_the_world_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, connect in ((provider.ADDRESS, provider.connect), (carrier.ADDRESS, carrier._carrier)):
        monkeypatch.setenv(variable, "")
        with capture_logs() as lines:
            connect()

        assert [(line["event"], line["log_level"]) for line in lines] == [("world_simulated", "warning")]
        assert f"{variable} names no" in lines[0]["why"]

        monkeypatch.setenv(variable, "http://127.0.0.1:9")
        with capture_logs() as lines:
            connect()

        assert not lines


@pytest.mark.parametrize(
    ("effects", "answers"),
    [
        ([authorize(), authorize()], [Authorized, Authorized]),
        ([authorize("card-declined"), authorize("card-ok")], [Declined, Declined]),
        ([authorize(), CAPTURE, CAPTURE], [Authorized, Captured, Captured]),
        ([authorize(), CAPTURE, authorize()], [Authorized, Captured, Authorized]),
        ([authorize("card-declined-at-capture"), CAPTURE, CAPTURE], [Authorized, Declined, Declined]),
        ([authorize("card-declined-at-capture"), CAPTURE, REVERSE], [Authorized, Declined, Voided]),
        ([CAPTURE, authorize(), CAPTURE], [Declined, Authorized, Captured]),
        ([authorize(), REVERSE, REVERSE], [Authorized, Voided, Voided]),
        ([authorize(), CAPTURE, REVERSE, REVERSE], [Authorized, Captured, Refunded, Refunded]),
        ([authorize("card-declined"), REVERSE], [Declined, NothingToReverse]),
        ([REVERSE, authorize(), CAPTURE, REVERSE], [NothingToReverse, Declined, Declined, NothingToReverse]),
        ([authorize(), REVERSE, authorize(), CAPTURE], [Authorized, Voided, Declined, Declined]),
        ([authorize(), CAPTURE, REVERSE, CAPTURE], [Authorized, Captured, Refunded, Declined]),
    ],
)
def test_the_provider_answers(effects: list[PaymentEffect], answers: list[type[Answer]]) -> None:
    assert kinds(provider_answers(*effects)[0]) == answers


def test_one_payment_has_one_reference_and_is_refunded_whole() -> None:
    (held, taken, back), _ = provider_answers(authorize(), CAPTURE, REVERSE)
    assert isinstance(held, Authorized)
    assert taken == Captured(reference=held.reference)
    assert back == Refunded(reference=held.reference, amount=AMOUNT)


PAYMENT_EFFECTS = st.lists(
    st.sampled_from([authorize(), authorize("card-declined-at-capture"), authorize("card-declined"), CAPTURE, REVERSE]),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(PAYMENT_EFFECTS)
def test_a_question_repeated_at_once_gets_the_same_answer_and_changes_nothing(effects: list[PaymentEffect]) -> None:
    for length in range(1, len(effects) + 1):
        once, payment = provider_answers(*effects[:length])
        twice, same = provider_answers(*effects[:length], effects[length - 1])
        assert (twice[-1], same) == (once[-1], payment)


@settings(max_examples=200, deadline=None)
@given(PAYMENT_EFFECTS)
def test_after_a_reversal_no_money_is_held_or_taken_ever(effects: list[PaymentEffect]) -> None:
    answers, payment = provider_answers(REVERSE, *effects)
    assert not {Authorized, Captured} & set(kinds(answers))
    assert (payment.authorized_at, payment.captured_at) == (None, None)
    answers, payment = provider_answers(*effects, REVERSE)
    assert payment.status in ("voided", "refunded", "declined", "closed")
    assert (payment.captured_at is None) == (payment.status != "refunded")


@pytest.mark.parametrize(
    ("effects", "answers"),
    [
        ([book(), book()], [Booked, Booked]),
        ([book("00012"), book("10115")], [NotBooked, NotBooked]),
        ([book(country="XX"), CANCEL], [NotBooked, NothingBooked]),
        ([book(), CANCEL, CANCEL], [Booked, BookingCancelled, BookingCancelled]),
        ([CANCEL, book(), CANCEL], [NothingBooked, NotBooked, NothingBooked]),
        ([book(), CANCEL, book()], [Booked, BookingCancelled, NotBooked]),
    ],
)
def test_the_carrier_answers(effects: list[ShipmentEffect], answers: list[type[Answer]]) -> None:
    assert kinds(carrier_answers(*effects)[0]) == answers


def test_one_parcel_has_one_reference() -> None:
    (booked, called_off), _ = carrier_answers(book(), CANCEL)
    assert isinstance(booked, Booked)
    assert called_off == BookingCancelled(reference=booked.reference)


def test_each_asks_only_what_its_port_knows() -> None:
    with pytest.raises(TypeError, match="PaymentEffect"):
        provider_answers(PaymentEffect(order_id=ORDER))
    with pytest.raises(TypeError, match="ShipmentEffect"):
        carrier_answers(ShipmentEffect(order_id=ORDER))
