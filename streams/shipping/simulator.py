"""A carrier for demonstrations and tests. It keeps the promises that `carrier` asks of an adapter.

The outcome follows the address: no parcel goes to country `XX` or to a postal code that starts with `000`; every other
is booked. Its records are the tables `bookings` and `booking_calls`.
"""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from uuid import NAMESPACE_URL, uuid5

from msgspec.structs import replace

from streams.kit.events import Answer
from streams.kit.simulation import Record, Script, SimulatedWorld
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

COUNTRY_NOT_SERVED = "XX"
POSTAL_CODES_NOT_SERVED = "000"


class Status(StrEnum):
    """What became of a booking. `closed`: it was called off before anything was booked."""

    NEW = "new"
    BOOKED = "booked"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    CLOSED = "closed"


class Booking(Record, frozen=True, kw_only=True):
    """What the carrier knows of one parcel. A time is set once it happened."""

    items: int = 0
    status: Status = Status.NEW
    reference: str | None = None
    reason: str | None = None
    booked_at: datetime | None = None
    cancelled_at: datetime | None = None


DDL = """
CREATE TABLE IF NOT EXISTS bookings (
    key text PRIMARY KEY, order_id text NOT NULL, calls integer NOT NULL, items integer NOT NULL, status text NOT NULL,
    reference text, reason text, booked_at timestamptz, cancelled_at timestamptz
);
CREATE TABLE IF NOT EXISTS booking_calls (
    call bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, verb text NOT NULL, outcome text NOT NULL,
    changed boolean NOT NULL, at timestamptz NOT NULL
);
"""


def answer(booking: Booking, effect: ShipmentEffect, at: datetime) -> tuple[Booking, Answer]:
    """What the carrier makes of one question, and what it says. Pure."""
    match effect:
        case BookShipment():
            return _book(booking, effect, at)
        case CancelBooking():
            return _cancel(booking, at)
    raise TypeError(f"a carrier is not asked for {type(effect).__name__}")


def _book(booking: Booking, effect: BookShipment, at: datetime) -> tuple[Booking, Answer]:
    if booking.status is Status.NEW:
        booking = replace(booking, items=effect.items)
        if _is_served(effect.ship_to):
            reference = f"shp_{uuid5(NAMESPACE_URL, booking.key).hex}"
            booking = replace(booking, status=Status.BOOKED, reference=reference, booked_at=at)
        else:
            booking = replace(booking, status=Status.REFUSED, reason="no parcels go to that address")
    if booking.status is Status.BOOKED:
        return booking, Booked(reference=booking.reference or "")
    return booking, NotBooked(reason=booking.reason or "the booking was called off")


def _cancel(booking: Booking, at: datetime) -> tuple[Booking, Answer]:
    match booking.status:
        case Status.BOOKED:
            booking = replace(booking, status=Status.CANCELLED, cancelled_at=at)
        case Status.NEW:
            booking = replace(booking, status=Status.CLOSED, cancelled_at=at)
    if booking.status is Status.CANCELLED:
        return booking, BookingCancelled(reference=booking.reference or "")
    return booking, NothingBooked()


def _is_served(address: Address) -> bool:
    return address.country != COUNTRY_NOT_SERVED and not address.postal_code.startswith(POSTAL_CODES_NOT_SERVED)


SCRIPT = Script(Booking, "bookings", "booking_calls", DDL, answer)


def simulated_carrier() -> AbstractAsyncContextManager[SimulatedWorld[Booking]]:
    """The carrier, on the database that `PAVANE_DATABASE_WORLD` names."""
    return SimulatedWorld.playing(SCRIPT)
