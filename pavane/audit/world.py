"""What the outside world remembers: the payment provider's and the carrier's own records, an order at a time."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Charge(NamedTuple):
    """One payment as the provider knows it. `captures`: how often money was really taken, repeated answers aside."""

    key: str
    order_id: str
    status: str
    amount_minor: int
    currency: str | None
    captures: int


class Parcel(NamedTuple):
    """One booking as the carrier knows it, of so many `items`. `bookings`: how often a parcel was really taken on."""

    key: str
    order_id: str
    status: str
    items: int
    bookings: int


class World(NamedTuple):
    """Everything that the provider and the carrier know, by order; None where it is not at hand: `absent` says why."""

    charges: Mapping[str, Sequence[Charge]] | None
    parcels: Mapping[str, Sequence[Parcel]] | None
    absent: Sequence[str] = ()
