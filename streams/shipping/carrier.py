"""What shipping asks of a carrier, and what it may answer.

An order has one parcel, so both questions are asked under one key. An adapter must keep four promises about it:

- The same question again gets the first answer and books nothing again. A refusal is an answer.
- A cancellation may come first, or when nothing is known of a booking: a batch that asked for one may be lost. After a
  cancellation the carrier refuses to book under that key, for ever.
- A reference tells nothing of the address, nor does an error: facts hold the one for ever and logs the other, as they
  come. In reasons the words of the address are replaced, where they stand as they were asked.
- A cancellation always succeeds in the end. There is no answer for "too late": one that the carrier refuses (the parcel
  was fetched) stays unanswered until a person has settled it there, and the order's later records wait.

Shipping itself knows addresses as tokens only (`streams.kit.protection`); the carrier is asked in plain text
(`addresses`).
"""

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from streams.kit.events import Answer, Effect
from streams.kit.keyring import Keyring, KeySettings
from streams.kit.logs import logger
from streams.kit.service import World
from streams.shipping.events import Address

ADDRESS = "PAVANE_CARRIER"
"""URL of a carrier that is asked over HTTP, as `streams.kit.remote` says. Default: none."""

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


@asynccontextmanager
async def connect() -> AsyncIterator[World]:
    """The carrier, asked in plain text under the keys that `PAVANE_DATABASE_KEYS` holds."""
    from streams.shipping.addresses import RevealingCarrier

    async with Keyring.at(KeySettings.read()) as keys, _carrier() as carrier:
        yield RevealingCarrier(carrier, keys)


def _carrier() -> AbstractAsyncContextManager[World]:
    """The carrier at the address that `PAVANE_CARRIER` names; without one, the simulator in this process."""
    if url := os.environ.get(ADDRESS):
        from streams.kit.remote import remote_world
        from streams.shipping.service import shipping

        return remote_world(shipping, url)
    from streams.shipping.simulator import simulated_carrier

    logger().warning("world_simulated", why=f"{ADDRESS} names no carrier: no parcel is sent")
    return simulated_carrier()
