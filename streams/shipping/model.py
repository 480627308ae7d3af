"""What shipping remembers: one row a parcel. `tables` holds the same columns."""

from enum import StrEnum

from streams.kit.events import State
from streams.shipping.events import Address


class Status(StrEnum):
    """How far a parcel is. Rejected and cancelled are final; so is booked, unless the order is cancelled."""

    NEW = "new"
    PLANNED = "planned"
    BOOKED = "booked"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class Shipment(State, table="shipments", key="order_id"):
    """The parcel of one order, of `items` pieces. `reference`: the carrier's, once it has one."""

    order_id: str
    tenant: str = ""
    status: Status = Status.NEW
    ship_to: Address | None = None
    items: int = 0
    reference: str | None = None
