"""What shipping asks of a carrier, and what it may answer.

An order has one parcel, so both questions are asked under one key. An adapter must keep two promises about it:

- The same question again gets the first answer and books nothing again. A refusal is an answer.
- A cancellation may come first, or when nothing is known of a booking: a batch that asked for one may be lost. After a
  cancellation the carrier refuses to book under that key, for ever.
"""

from contextlib import AbstractAsyncContextManager

from streams.kit.events import Answer, Effect
from streams.kit.service import World
from streams.shipping.events import Address

# -- asked -----------------------------------------------------------------------------------------------------------


class ShipmentEffect(Effect):
    """Concerns the one parcel of an order."""

    order_id: str

    @property
    def key(self) -> str:
        return f"shipment/{self.order_id}"


class BookShipment(ShipmentEffect):
    """Take this parcel on."""

    ship_to: Address
    items: int


class CancelBooking(ShipmentEffect):
    """Call off whatever was booked for the order, and refuse to book anything for it later."""


# -- answered --------------------------------------------------------------------------------------------------------


class Booked(Answer):
    """The parcel will be fetched."""

    reference: str


class NotBooked(Answer):
    """The parcel is not taken."""

    reason: str


class BookingCancelled(Answer):
    """The parcel was booked and will not be fetched."""

    reference: str


class NothingBooked(Answer):
    """No parcel was ever booked."""


def connect() -> AbstractAsyncContextManager[World]:
    """The carrier to ask: for now always the simulator. Its driver is loaded only by a process that asks."""
    from streams.shipping.simulator import simulated_carrier

    return simulated_carrier()
