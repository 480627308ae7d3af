"""What an ended order leaves behind: everything if it was confirmed, nothing if it was cancelled or rejected.

A service's rows are judged once the service has handled, in its snapshot, how the order ended: whatever follows from
that is then in the same snapshot. The outside world was looked at after all services, so it shows what they had asked.
Of whom the records are not at hand nothing is judged, and a note says so.
An order whose end somebody has still to hear, or has parked, is not settled yet; for long, that is a violation too:
money is held for it, or goods are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pavane.audit.orders import CANCELLED, CONFIRMED, REJECTED, TOPIC, OrderFacts, goods
from pavane.audit.report import Tally, Verdict
from pavane.audit.waiting import Waiting
from pavane.audit.world import Charge, World
from pavane.operators.words import count
from streams.billing.model import Invoice
from streams.billing.model import Status as InvoiceStatus
from streams.billing.simulator import Status as ChargeStatus
from streams.inventory.model import Reservation
from streams.inventory.model import Status as ReservationStatus
from streams.kit.events import from_milliseconds
from streams.shipping.model import Shipment
from streams.shipping.model import Status as ShipmentStatus
from streams.shipping.simulator import Status as ParcelStatus

Waits = Callable[[str, int, int, str], Waiting | None]
"""Why this service has not handled the fact of `orders` with that partition, sequence and key; None: it has."""

CONCERNED = ("inventory", "billing", "shipping")
UNDONE_INVOICES = {InvoiceStatus.VOIDED, InvoiceStatus.REFUNDED, InvoiceStatus.CANCELLED}
UNDONE_RESERVATIONS = {ReservationStatus.REJECTED, ReservationStatus.RELEASED}
NOTHING_RESERVED = {ReservationStatus.NEW, ReservationStatus.REJECTED}
UNDONE_SHIPMENTS = {ShipmentStatus.REJECTED, ShipmentStatus.CANCELLED}
UNDONE_CHARGES = {ChargeStatus.DECLINED, ChargeStatus.VOIDED, ChargeStatus.REFUNDED, ChargeStatus.CLOSED}
UNDONE_PARCELS = {ParcelStatus.REFUSED, ParcelStatus.CANCELLED, ParcelStatus.CLOSED}
#: The carrier was not told of how many pieces the parcel is.
NEVER_ASKED = {ParcelStatus.NEW, ParcelStatus.CLOSED}
#: What the provider must say where an invoice says this.
AGREEING: Mapping[InvoiceStatus, set[ChargeStatus]] = {
    InvoiceStatus.VOIDED: {ChargeStatus.VOIDED},
    InvoiceStatus.REFUNDED: {ChargeStatus.REFUNDED},
    InvoiceStatus.CANCELLED: {ChargeStatus.DECLINED, ChargeStatus.CLOSED},
}


class Remains(NamedTuple):
    """What there is of orders in all places, by order id."""

    reservations: Mapping[str, Reservation]
    invoices: Mapping[str, Invoice]
    shipments: Mapping[str, Shipment]
    world: World


def confirmed(orders: Mapping[str, OrderFacts], remains: Remains, waits: Waits, now: datetime) -> Verdict:
    """Every confirmed order is paid once and dispatched; nothing is dispatched, or paid twice, for any other. Of every
    order the total is that of its lines, and what is set aside and sent is what it is over."""
    tally = Tally(
        "confirmed-paid-and-sent",
        "An order is confirmed exactly if its total was captured once, its stock dispatched and its parcel booked.",
    )
    for order_id, order in orders.items():
        if order.ending is None or order.ending[0] != CONFIRMED:
            continue
        _judge(tally, order_id, order, waits, now, _unpaid_or_unsent(order_id, order, remains))
    for order_id, reservation in remains.reservations.items():
        ending = _ending(orders, order_id)
        if reservation.status is ReservationStatus.DISPATCHED and ending != CONFIRMED:
            tally.violation(f"order {order_id} is {ending or 'open'}, but its stock was dispatched: see reservations")
    for order_id, order in orders.items():
        for flaw in _otherwise(order_id, order, remains):
            tally.violation(f"order {order_id} {flaw}")
    for order_id, charges in (remains.world.charges or {}).items():
        if (captures := sum(charge.captures for charge in charges)) > 1:
            tally.violation(
                f"order {order_id}: money was captured {captures} times: see the provider's payment_calls under "
                f"{', '.join(charge.key for charge in charges)}"
            )
        elif captures == 1 and _ending(orders, order_id) == REJECTED:
            tally.violation(f"order {order_id} was rejected, but its money was captured")
    _note_absent(tally, remains.world)
    return tally.verdict()


def undone(orders: Mapping[str, OrderFacts], remains: Remains, waits: Waits, now: datetime) -> Verdict:
    """Of a cancelled order everything is undone; of a rejected one, or one that nobody placed, nothing was done."""
    tally = Tally(
        "cancelled-undone",
        "Of a cancelled or rejected order nothing is left reserved, authorised, captured or booked, in any record.",
    )
    for order_id, order in orders.items():
        if order.ending is not None and order.ending[0] == CANCELLED:
            _judge(tally, order_id, order, waits, now, _left_over(order_id, remains))
        elif order.ending is not None and order.ending[0] == REJECTED:
            tally.checked += 1
    for place, order_ids in _places(remains):
        for order_id in order_ids:
            if order_id not in orders:
                tally.violation(f"order {order_id} was never placed, but there is something of it in {place}")
            elif _ending(orders, order_id) == REJECTED:
                tally.violation(f"order {order_id} was rejected, but there is something of it in {place}")
    _note_absent(tally, remains.world)
    return tally.verdict()


def _note_absent(tally: Tally, world: World) -> None:
    for what in world.absent:
        tally.note(what)


def _judge(
    tally: Tally, order_id: str, order: OrderFacts, waits: Waits, now: datetime, flaws: Iterator[tuple[str, str]]
) -> None:
    """Count the order; note each flaw (who it is about, what it is) that the service concerned has to answer for, and
    what the others wait for."""
    assert order.ending is not None
    ending, sequence = order.ending
    found = {service: waits(service, order.partition, sequence, order_id) for service in CONCERNED}
    waiting = {service: why for service, why in found.items() if why is not None}
    what = f"order {order_id} ({ending}, {TOPIC}/{order.partition}/{sequence})"
    tally.checked += 1
    meanwhile: dict[str, str] = {}
    for service, flaw in flaws:
        if service in waiting:
            meanwhile.setdefault(service, flaw)
        else:
            tally.violation(f"{what}: {flaw}")
    redrive = any(why.redrive for why in waiting.values())
    if meanwhile:
        held_up = ", and ".join(waiting[service].what for service in meanwhile)
        told = f"{what}: {held_up}; until then {', '.join(meanwhile.values())}"
        tally.wait(told, from_milliseconds(order.ended_ms), now, redrive=redrive)
    elif waiting:
        # Nothing is owed any more, such as where a cancellation was handled before what is parked.
        tally.unsettled += 1
        tally.until_redrive += redrive


def _otherwise(order_id: str, order: OrderFacts, remains: Remains) -> Iterator[str]:
    """What of an order, however far it came, is not what it is over."""
    if not order.goods:
        return
    if order.total_minor != order.lines_minor:
        yield f"has a total of {order.total_minor} {order.currency}, but its lines cost {order.lines_minor}"
    reservation = remains.reservations.get(order_id)
    if reservation is not None and reservation.status not in NOTHING_RESERVED:
        stock = goods((line.sku, line.quantity) for line in reservation.lines)
        if stock != order.goods:
            yield f"is over {order.goods}, but its stock is {stock} ({reservation.status}): see reservations"
    shipment = remains.shipments.get(order_id)
    if shipment is not None and shipment.status is not ShipmentStatus.NEW and shipment.items != order.pieces:
        yield f"is of {count(order.pieces, 'piece')}, but its shipment of {shipment.items}: see shipments"
    for parcel in (remains.world.parcels or {}).get(order_id, ()):
        if parcel.status not in NEVER_ASKED and parcel.items != order.pieces:
            yield f"is of {count(order.pieces, 'piece')}, but the carrier has {parcel.key} of {parcel.items}"


def _unpaid_or_unsent(order_id: str, order: OrderFacts, remains: Remains) -> Iterator[tuple[str, str]]:
    """What a confirmed order lacks."""
    invoice = remains.invoices.get(order_id)
    if invoice is None or invoice.status is not InvoiceStatus.CAPTURED:
        yield "billing", f"its invoice is {_status(invoice)}, not captured"
    elif (invoice.amount_minor, invoice.currency) != (order.total_minor, order.currency):
        total = f"{order.total_minor} {order.currency}"
        yield "billing", f"its invoice is over {invoice.amount_minor} {invoice.currency}, its total is {total}"
    if remains.world.charges is not None:
        for flaw in _uncaptured(order, remains.world.charges.get(order_id, ())):
            yield "billing", flaw
    reservation = remains.reservations.get(order_id)
    if reservation is None or reservation.status is not ReservationStatus.DISPATCHED:
        yield "inventory", f"its stock is {_status(reservation)}, not dispatched"
    shipment = remains.shipments.get(order_id)
    if shipment is None or shipment.status is not ShipmentStatus.BOOKED:
        yield "shipping", f"its shipment is {_status(shipment)}, not booked"
    if remains.world.parcels is not None:
        parcels = remains.world.parcels.get(order_id, ())
        if len(parcels) != 1 or parcels[0].status != ParcelStatus.BOOKED or parcels[0].bookings != 1:
            records = ", ".join(f"{parcel.key} {parcel.status} {parcel.bookings}x" for parcel in parcels) or "none"
            yield "shipping", f"the carrier's records of it are not one parcel booked once but: {records}"


def _uncaptured(order: OrderFacts, charges: Sequence[Charge]) -> Iterator[str]:
    """How the provider's records of a confirmed order are not its total, captured once."""
    if order.total_minor == 0:
        if charges:
            yield "it is free, but the provider was asked for money"
    elif len(charges) != 1 or charges[0].status != ChargeStatus.CAPTURED or charges[0].captures < 1:
        records = ", ".join(f"{charge.key} {charge.status}" for charge in charges) or "none"
        yield f"the provider's records of it are not one captured payment but: {records}"
    elif (charges[0].amount_minor, charges[0].currency) != (order.total_minor, order.currency):
        taken = f"{charges[0].amount_minor} {charges[0].currency}"
        yield f"the provider took {taken}, its total is {order.total_minor} {order.currency}"


def _left_over(order_id: str, remains: Remains) -> Iterator[tuple[str, str]]:
    """What a cancelled order still has."""
    invoice = remains.invoices.get(order_id)
    charges = remains.world.charges.get(order_id, ()) if remains.world.charges is not None else None
    if invoice is None or invoice.status not in UNDONE_INVOICES:
        yield "billing", f"its invoice is {_status(invoice)}, not voided, refunded or cancelled"
    elif charges is not None:
        agreeing = AGREEING[invoice.status]
        said = [charge.status for charge in charges if charge.status in UNDONE_CHARGES]
        if len(said) == len(charges) and any(status not in agreeing for status in said):
            yield "billing", f"its invoice is {invoice.status}, but the provider says {', '.join(said)}"
        elif not charges and not invoice.is_free:
            yield "billing", f"its invoice is {invoice.status}, but the provider was never asked to reverse"
    for charge in charges or ():
        if charge.status not in UNDONE_CHARGES:
            yield "billing", f"the provider still has {charge.key} {charge.status}: reverse it there"
    reservation = remains.reservations.get(order_id)
    if reservation is None or reservation.status not in UNDONE_RESERVATIONS:
        yield "inventory", f"its stock is {_status(reservation)}, not released: see reservations"
    shipment = remains.shipments.get(order_id)
    if shipment is None or shipment.status not in UNDONE_SHIPMENTS:
        yield "shipping", f"its shipment is {_status(shipment)}, not cancelled"
    for parcel in (remains.world.parcels or {}).get(order_id, ()):
        if parcel.status not in UNDONE_PARCELS:
            yield "shipping", f"the carrier still has {parcel.key} {parcel.status}: call it off there"


def _places(remains: Remains) -> Iterator[tuple[str, Mapping[str, object]]]:
    yield "inventory.reservations", remains.reservations
    yield "billing.invoices", remains.invoices
    yield "shipping.shipments", remains.shipments
    yield "the provider's payments", remains.world.charges or {}
    yield "the carrier's bookings", remains.world.parcels or {}


def _ending(orders: Mapping[str, OrderFacts], order_id: str) -> str | None:
    order = orders.get(order_id)
    return order.ending[0] if order is not None and order.ending is not None else None


def _status(row: Reservation | Invoice | Shipment | None) -> str:
    return row.status.value if row is not None else "missing"
