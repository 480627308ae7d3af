"""What inventory remembers: the stock of every item, what is set aside for every order, and every movement of goods."""

from enum import StrEnum

from streams.inventory.events import StockLine
from streams.kit.events import State


class Status(StrEnum):
    """What became of the goods of an order. All but reserved are final."""

    NEW = "new"
    RESERVED = "reserved"
    REJECTED = "rejected"
    DISPATCHED = "dispatched"
    RELEASED = "released"


class Reservation(State, table="reservations", key="order_id"):
    """The goods of one order, each item once."""

    order_id: str
    tenant: str = ""
    status: Status = Status.NEW
    lines: tuple[StockLine, ...] = ()


class Stock(State, table="stock", key="item", shared=True):
    """How many pieces of one item there are, changed by orders of every partition.

    `on_hand` are free to promise, `reserved` are set aside for orders. Always
    received + adjusted = on_hand + reserved + dispatched.
    """

    item: str
    on_hand: int = 0
    reserved: int = 0
    dispatched: int = 0
    received: int = 0
    adjusted: int = 0


class Kind(StrEnum):
    """Why the number of pieces changed from outside."""

    NEW = "new"
    RECEIVED = "received"
    ADJUSTED = "adjusted"


class Movement(State, table="movements", key="movement"):
    """One receipt or correction, known by tenant/sku/request: the warehouse's ledger."""

    movement: str
    item: str = ""
    kind: Kind = Kind.NEW
    quantity: int = 0
    reason: str | None = None
