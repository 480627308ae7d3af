"""Shipping: every row of its canvas, and a cancellation at every moment of a booking."""

import pytest

from streams.kit.events import Heard
from streams.kit.testing import Given
from streams.shipping.carrier import (
    Booked,
    BookingCancelled,
    BookShipment,
    CancelBooking,
    NotBooked,
    NothingBooked,
)
from streams.shipping.events import (
    Address,
    OrderCancelled,
    OrderedLine,
    OrderPlaced,
    PaymentAuthorized,
    ShipmentBooked,
    ShipmentCancelled,
    ShipmentPlanned,
    ShipmentRejected,
    ShippingFact,
)
from streams.shipping.model import Status
from streams.shipping.service import shipping

ORDER = "0190a000-0000-7000-8000-000000000001"
ADDRESS = Address(recipient="Ada", street="Main 1", postal_code="10115", city="Berlin", country="DE")
given = Given(shipping)

PLANNED = ShipmentPlanned(tenant="shop", order_id=ORDER, ship_to=ADDRESS, items=5)
BOOKED = ShipmentBooked(tenant="shop", order_id=ORDER, reference="ref-1")
REJECTED = ShipmentRejected(tenant="shop", order_id=ORDER, reason="too far")
CALLED_OFF = ShipmentCancelled(tenant="shop", order_id=ORDER, reference="ref-1")
NEVER_BOOKED = ShipmentCancelled(tenant="shop", order_id=ORDER, reference=None)

ORDER_PLACED = OrderPlaced(
    tenant="shop", order_id=ORDER, lines=(OrderedLine(quantity=2), OrderedLine(quantity=3)), ship_to=ADDRESS
)
ORDER_CANCELLED = OrderCancelled(order_id=ORDER)
AUTHORIZED = PaymentAuthorized(order_id=ORDER)
BOOK = BookShipment(order_id=ORDER, ship_to=ADDRESS, items=5)
CANCEL = CancelBooking(order_id=ORDER)


def test_a_placed_order_has_one_parcel_of_all_its_pieces() -> None:
    given().when(ORDER_PLACED).then(PLANNED).when(ORDER_PLACED).then()


def test_a_carrier_is_asked_once_the_money_is_held() -> None:
    story = given(PLANNED).when(AUTHORIZED).then(BOOK)
    story.answered(Booked(reference="ref-1")).then(BOOKED).remembers(status=Status.BOOKED, reference="ref-1")


def test_a_refused_parcel_is_told() -> None:
    story = given(PLANNED).when(AUTHORIZED).then(BOOK)
    story.answered(NotBooked(reason="too far")).then(REJECTED).remembers(status=Status.REJECTED)


@pytest.mark.parametrize("facts", [[], [PLANNED, BOOKED], [PLANNED, REJECTED], [PLANNED, CALLED_OFF]])
def test_a_carrier_is_asked_once_and_only_about_a_planned_parcel(facts: list[ShippingFact]) -> None:
    given(*facts).when(AUTHORIZED).then()


@pytest.mark.parametrize("facts", [[PLANNED], [PLANNED, BOOKED]])
@pytest.mark.parametrize(
    ("answer", "fact"), [(BookingCancelled(reference="ref-1"), CALLED_OFF), (NothingBooked(), NEVER_BOOKED)]
)
def test_a_cancellation_asks_the_carrier_also_when_no_booking_is_known(
    facts: list[ShippingFact], answer: BookingCancelled | NothingBooked, fact: ShipmentCancelled
) -> None:
    # The batch that booked may have been lost: then only the carrier knows.
    given(*facts).when(ORDER_CANCELLED).then(CANCEL).answered(answer).then(fact)


def test_a_parcel_that_was_refused_needs_no_calling_off() -> None:
    given(PLANNED, REJECTED).when(ORDER_CANCELLED).then()


@pytest.mark.parametrize("late", [ORDER_PLACED, AUTHORIZED, ORDER_CANCELLED])
def test_nothing_changes_a_parcel_called_off(late: Heard) -> None:
    given(PLANNED, NEVER_BOOKED).when(late).then()


def test_a_cancellation_of_an_order_that_shipping_never_saw_changes_nothing() -> None:
    given().when(ORDER_CANCELLED).then()


def test_both_questions_about_one_order_bear_one_key() -> None:
    assert BOOK.key == CANCEL.key == f"shipment/{ORDER}"
