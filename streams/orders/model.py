"""What orders remembers: one row an order, one row a price. `tables` holds the same columns."""

from datetime import datetime
from enum import StrEnum

from streams.kit.events import State


class Status(StrEnum):
    """How far an order is. Rejected, confirmed and cancelled are final."""

    NEW = "new"
    PLACED = "placed"
    REJECTED = "rejected"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class Order(State, table="orders", key="order_id"):
    """One order. `due_at`: when it will be cancelled if nothing was decided by then; none once it is final."""

    order_id: str
    partition: int = -1
    tenant: str = ""
    status: Status = Status.NEW
    reason: str | None = None
    amount_minor: int = 0
    currency: str | None = None
    cancellation_refused: bool = False
    due_at: datetime | None = None


class Price(State, table="prices", key="item"):
    """What one piece of an item costs now. Without a currency: it has no price. `request_id`: who set it last.

    `as_of`: when it was asked for; if that is not known, when the last one before it was that said so.
    """

    item: str
    amount_minor: int = 0
    currency: str | None = None
    request_id: str | None = None
    as_of: datetime | None = None
