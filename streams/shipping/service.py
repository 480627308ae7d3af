"""Shipping decides: is a carrier asked to take the parcel, and is it called off?

An order can be cancelled at any moment, also while its booking is under way, and a batch can be lost after the carrier
was asked. So a cancellation asks the carrier to call off, also when no booking is known here, and the carrier's answer
says what there was. Only a parcel that the carrier refused needs no asking: a refusal is the carrier's first and last
answer under that key, so no lost batch can have booked it, and none ever will.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from streams.kit.service import Said, Service
from streams.shipping.carrier import (
    Booked,
    BookingCancelled,
    BookShipment,
    CancelBooking,
    NotBooked,
    NothingBooked,
    connect,
)
from streams.shipping.events import (
    OrderCancelled,
    OrderPlaced,
    PaymentAuthorized,
    ShipmentBooked,
    ShipmentCancelled,
    ShipmentPlanned,
    ShipmentRejected,
)
from streams.shipping.model import Shipment, Status

shipping = Service(
    "shipping",
    states=[Shipment],
    says=[ShipmentPlanned, ShipmentBooked, ShipmentRejected, ShipmentCancelled],
    world=connect,
)


# -- decisions -------------------------------------------------------------------------------------------------------


@shipping.hears(OrderPlaced)
def plan(shipment: Shipment, placed: OrderPlaced) -> Iterator[Said]:
    """Remember where the parcel would go, until the money is held."""
    if shipment.status is Status.NEW:
        yield ShipmentPlanned(
            tenant=placed.tenant,
            order_id=placed.order_id,
            ship_to=placed.ship_to,
            items=sum(line.quantity for line in placed.lines),
        )


@shipping.hears(PaymentAuthorized)
def book_paid_order(shipment: Shipment, authorized: PaymentAuthorized) -> Iterator[Said]:
    """The money is held: ask the carrier, unless the order was called off meanwhile."""
    if shipment.status is Status.PLANNED and shipment.ship_to is not None:
        yield BookShipment(order_id=shipment.order_id, ship_to=shipment.ship_to, items=shipment.items)


@shipping.answers(BookShipment)
def note_booking(shipment: Shipment, answer: Booked | NotBooked) -> Iterator[Said]:
    match answer:
        case Booked(reference=reference):
            yield ShipmentBooked(tenant=shipment.tenant, order_id=shipment.order_id, reference=reference)
        case NotBooked(reason=reason):
            yield ShipmentRejected(tenant=shipment.tenant, order_id=shipment.order_id, reason=reason)


@shipping.hears(OrderCancelled, overtakes=True)
def call_off(shipment: Shipment, cancelled: OrderCancelled) -> Iterator[Said]:
    """Ship nothing: ask the carrier to call off, also when only the carrier knows of a booking."""
    if shipment.status in (Status.PLANNED, Status.BOOKED):
        yield CancelBooking(order_id=shipment.order_id)


@shipping.answers(CancelBooking)
def note_cancellation(shipment: Shipment, answer: BookingCancelled | NothingBooked) -> Iterator[Said]:
    reference = answer.reference if isinstance(answer, BookingCancelled) else None
    yield ShipmentCancelled(tenant=shipment.tenant, order_id=shipment.order_id, reference=reference)


# -- what the carrier had answered, by the facts that told it: a replay asks nobody -----------------------------------


@shipping.recalls(BookShipment)
def recall_booking(told: ShipmentBooked | ShipmentRejected) -> Booked | NotBooked:
    if isinstance(told, ShipmentBooked):
        return Booked(reference=told.reference)
    return NotBooked(reason=told.reason)


@shipping.recalls(CancelBooking)
def recall_cancellation(told: ShipmentCancelled) -> BookingCancelled | NothingBooked:
    return NothingBooked() if told.reference is None else BookingCancelled(reference=told.reference)


# -- folds -----------------------------------------------------------------------------------------------------------


@shipping.evolves(ShipmentPlanned)
def planned(shipment: Shipment, fact: ShipmentPlanned) -> Shipment:
    return replace(
        shipment, tenant=fact.tenant, status=Status.PLANNED, ship_to=fact.ship_to, items=fact.items
    )


@shipping.evolves(ShipmentBooked)
def booked(shipment: Shipment, fact: ShipmentBooked) -> Shipment:
    return replace(shipment, status=Status.BOOKED, reference=fact.reference)


@shipping.evolves(ShipmentRejected)
def rejected(shipment: Shipment, fact: ShipmentRejected) -> Shipment:
    return replace(shipment, status=Status.REJECTED)


@shipping.evolves(ShipmentCancelled)
def cancelled(shipment: Shipment, fact: ShipmentCancelled) -> Shipment:
    return replace(shipment, status=Status.CANCELLED, reference=fact.reference)


shipping.verify()
