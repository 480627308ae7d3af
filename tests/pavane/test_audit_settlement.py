"""The audit names every order of which too little, too much or the wrong thing is left when it has ended."""

from typing import NamedTuple

import pytest

from pavane.audit.world import Charge, Parcel, World
from streams.billing.model import Invoice
from streams.billing.model import Status as InvoiceStatus
from streams.inventory.model import Reservation
from streams.inventory.model import Status as ReservationStatus
from streams.shipping.model import Shipment
from streams.shipping.model import Status as ShipmentStatus
from tests.pavane.audited import Look, Shop, said_by

CONFIRMED = "confirmed-paid-and-sent"
CANCELLED = "cancelled-undone"


class Placed(NamedTuple):
    """A shop at rest, and one order of every kind in it."""

    shop: Shop
    confirmed: str
    free: str
    cancelled: str
    refunded: str
    rejected: str


@pytest.fixture
async def placed() -> Placed:
    shop = Shop()
    shop.stock("lamp", 100)
    shop.stock("flyer", 100, price=0)
    await shop.settle()
    refunded = shop.place("lamp", 3)
    await shop.settle("orders", "inventory", "billing", "shipping")
    confirmed, free, rejected = shop.place("lamp"), shop.place("flyer"), shop.place("unheard-of")
    cancelled = shop.place("lamp", country="XX")
    await shop.settle()
    return Placed(shop, confirmed, free, cancelled, refunded, rejected)


def test_nothing_is_wrong_before_anything_is_planted(placed: Placed):
    assert placed.shop.look().broken() == {}


# -- confirmed -------------------------------------------------------------------------------------------------------


def test_a_double_capture_is_named(placed: Placed):
    look = placed.shop.look()
    [charge] = look.charges[placed.confirmed]
    look.charges[placed.confirmed] = [charge._replace(captures=2)]

    assert f"order {placed.confirmed}: money was captured 2 times" in words(look, CONFIRMED)


def test_a_second_payment_of_one_order_is_named(placed: Placed):
    look = placed.shop.look()
    [charge] = look.charges[placed.confirmed]
    look.charges[placed.confirmed] = [charge, charge._replace(key="payment/again")]

    assert "not one captured payment but" in words(look, CONFIRMED)
    assert "money was captured 2 times" in words(look, CONFIRMED)


def test_a_confirmed_order_whose_money_the_provider_does_not_have_is_named(placed: Placed):
    look = placed.shop.look()
    look.charges.pop(placed.confirmed)

    assert f"{placed.confirmed} (OrderConfirmed" in words(look, CONFIRMED)
    assert "not one captured payment but: none" in words(look, CONFIRMED)


def test_a_capture_of_another_amount_is_named(placed: Placed):
    look = placed.shop.look()
    [charge] = look.charges[placed.confirmed]
    look.charges[placed.confirmed] = [charge._replace(amount_minor=1)]

    assert "the provider took 1 EUR, its total is 1000 EUR" in words(look, CONFIRMED)


def test_money_asked_for_a_free_order_is_named(placed: Placed):
    look = placed.shop.look()
    look.charges[placed.free] = [Charge(f"payment/{placed.free}", placed.free, "declined", 0, "EUR", 0)]

    assert "it is free, but the provider was asked for money" in words(look, CONFIRMED)


def test_a_confirmed_order_whose_stock_did_not_leave_is_named(placed: Placed):
    look = placed.shop.look()
    row = look.seen["inventory"].rows[Reservation][placed.confirmed]
    look.seen["inventory"].put(row, status=ReservationStatus.RESERVED)

    assert "its stock is reserved, not dispatched" in words(look, CONFIRMED)


async def test_lines_of_one_item_are_its_pieces_together(placed: Placed):
    lamps = [{"sku": "lamp", "quantity": 1}, {"sku": "flyer", "quantity": 1}, {"sku": "lamp", "quantity": 2}]
    order = placed.shop.place("lamp", lines=lamps)
    await placed.shop.settle()
    look = placed.shop.look()
    row = look.seen["inventory"].rows[Reservation][order]

    assert look.broken() == {}
    look.seen["inventory"].put(row, lines=row.lines[:1])
    assert f"order {order} is over {{'flyer': 1, 'lamp': 3}}, but its stock is {{'lamp': 3}}" in words(look, CONFIRMED)


def test_a_confirmed_order_without_a_parcel_is_named(placed: Placed):
    look = placed.shop.look()
    look.parcels[placed.confirmed] = []

    assert "not one parcel booked once but: none" in words(look, CONFIRMED)


def test_a_parcel_booked_twice_is_named(placed: Placed):
    look = placed.shop.look()
    look.parcels[placed.confirmed] = [look.parcels[placed.confirmed][0]._replace(bookings=2)]

    assert "not one parcel booked once but" in words(look, CONFIRMED)


def test_a_confirmed_order_with_an_open_invoice_is_named(placed: Placed):
    look = placed.shop.look()
    row = look.seen["billing"].rows[Invoice][placed.confirmed]
    look.seen["billing"].put(row, status=InvoiceStatus.AUTHORIZED)

    assert "its invoice is authorized, not captured" in words(look, CONFIRMED)


def test_stock_dispatched_for_a_cancelled_order_is_named(placed: Placed):
    look = placed.shop.look()
    row = look.seen["inventory"].rows[Reservation][placed.cancelled]
    look.seen["inventory"].put(row, status=ReservationStatus.DISPATCHED)

    assert f"order {placed.cancelled} is OrderCancelled, but its stock was dispatched" in words(look, CONFIRMED)


# -- cancelled -------------------------------------------------------------------------------------------------------


def test_an_unreleased_reservation_is_named(placed: Placed):
    look = placed.shop.look()
    row = look.seen["inventory"].rows[Reservation][placed.cancelled]
    look.seen["inventory"].put(row, status=ReservationStatus.RESERVED)

    assert f"order {placed.cancelled} (OrderCancelled" in words(look, CANCELLED)
    assert "its stock is reserved, not released" in words(look, CANCELLED)


@pytest.mark.parametrize("status", ["authorized", "captured", "capture_declined", "new"])
def test_money_left_at_the_provider_is_named(placed: Placed, status: str):
    look = placed.shop.look()
    [charge] = look.charges[placed.cancelled]
    look.charges[placed.cancelled] = [charge._replace(status=status)]

    assert f"the provider still has payment/{placed.cancelled} {status}" in words(look, CANCELLED)


def test_a_cancelled_order_whose_reversal_was_never_asked_is_named(placed: Placed):
    look = placed.shop.look()
    look.charges.pop(placed.cancelled)

    assert "the provider was never asked to reverse" in words(look, CANCELLED)


def test_an_invoice_that_says_otherwise_than_the_provider_is_named(placed: Placed):
    look = placed.shop.look()
    [charge] = look.charges[placed.cancelled]
    look.charges[placed.cancelled] = [charge._replace(status="refunded")]

    assert "its invoice is voided, but the provider says refunded" in words(look, CANCELLED)


def test_a_parcel_left_at_the_carrier_is_named(placed: Placed):
    look = placed.shop.look()
    look.parcels[placed.cancelled] = [Parcel("shipment/x", placed.cancelled, "booked", 1, 1)]

    assert "the carrier still has shipment/x booked" in words(look, CANCELLED)


def test_a_shipment_of_a_cancelled_order_is_named(placed: Placed):
    look = placed.shop.look()
    row = look.seen["shipping"].rows[Shipment][placed.cancelled]
    look.seen["shipping"].put(row, status=ShipmentStatus.BOOKED)

    assert "its shipment is booked, not cancelled" in words(look, CANCELLED)


def test_anything_done_for_a_rejected_order_is_named(placed: Placed):
    look = placed.shop.look()
    look.parcels[placed.rejected] = [Parcel("shipment/x", placed.rejected, "booked", 1, 1)]

    assert f"order {placed.rejected} was rejected, but there is something of it in the carrier's bookings" in words(
        look, CANCELLED
    )


def test_money_taken_for_a_rejected_order_is_named(placed: Placed):
    look = placed.shop.look()
    look.charges[placed.rejected] = [Charge("payment/x", placed.rejected, "captured", 5, "EUR", 1)]

    assert f"order {placed.rejected} was rejected, but its money was captured" in words(look, CONFIRMED)


def test_anything_of_an_order_that_nobody_placed_is_named(placed: Placed):
    look = placed.shop.look()
    look.charges["stray"] = [Charge("payment/stray", "stray", "authorized", 5, "EUR", 0)]

    assert "order stray was never placed, but there is something of it in the provider's payments" in words(
        look, CANCELLED
    )


# -- what is not at hand ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", ["provider", "carrier"])
def test_of_a_party_whose_records_are_not_at_hand_nothing_is_judged_and_a_note_says_so(placed: Placed, party: str):
    look = placed.shop.look()
    absent = f"the {party}'s records are not at hand"
    charges, parcels = (None, look.parcels) if party == "provider" else (look.charges, None)
    look.world = World(charges, parcels, (absent,))

    verdicts = look.verdicts()

    assert look.broken() == {}
    assert verdicts[CONFIRMED].notes == verdicts[CANCELLED].notes == (absent,)


def test_the_services_own_rows_are_judged_all_the_same(placed: Placed):
    look = placed.shop.look()
    look.world = World(None, None)
    seen = look.seen["billing"]
    seen.put(seen.rows[Invoice][placed.confirmed], status=InvoiceStatus.AUTHORIZED)
    seen.put(seen.rows[Invoice][placed.cancelled], status=InvoiceStatus.OPEN)

    assert "its invoice is authorized, not captured" in words(look, CONFIRMED)
    assert "its invoice is open, not voided" in words(look, CANCELLED)


# -- what is not settled ---------------------------------------------------------------------------------------------


def test_a_service_that_has_not_heard_the_end_has_nothing_to_answer_for(placed: Placed):
    look = placed.shop.look()
    planted = said_by(look, "orders", placed.confirmed, "OrderCancelled", order_id=placed.confirmed, reason="CUSTOMER")
    first = look.records("orders", placed.confirmed)[1]
    look.replace(first)

    verdict = look.verdicts()[CANCELLED]

    assert planted in look.records("orders", placed.confirmed)
    assert verdict.unsettled == 1
    assert verdict.clean


def words(look: Look, name: str) -> str:
    """All that the audit says about that invariant."""
    return "\n".join(look.broken()[name])
