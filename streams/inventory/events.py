"""What inventory hears, with the fields it reads, and what it says."""

from collections.abc import Iterator

from streams.kit.events import Fact, Heard, Value
from streams.kit.keys import item_key

# -- heard -----------------------------------------------------------------------------------------------------------


class OrderedLine(Value):
    """How many pieces of one item an order wants; an item may occur on several lines."""

    sku: str
    quantity: int


class OrderPlaced(Heard, topic="orders"):
    """An order was taken: it needs these goods."""

    tenant: str
    order_id: str
    lines: tuple[OrderedLine, ...]


class OrderConfirmed(Heard, topic="orders"):
    """The order is paid: its goods may leave."""

    order_id: str


class OrderCancelled(Heard, topic="orders"):
    """The order is off: its goods are free again."""

    order_id: str


class ReceiveStock(Heard, topic="inventory.requests"):
    """A warehouse reports goods that came in."""

    tenant: str
    sku: str
    quantity: int
    request_id: str


class AdjustStock(Heard, topic="inventory.requests"):
    """A warehouse corrects the number of pieces on hand."""

    tenant: str
    sku: str
    quantity: int
    reason: str
    request_id: str


# -- said ------------------------------------------------------------------------------------------------------------


class StockLine(Value):
    """How many pieces of one item; an item occurs once in an order's lines."""

    sku: str
    quantity: int


class Shortage(Value):
    """An item of which there is less than the order needs."""

    sku: str
    requested: int
    available: int


class OrderStockFact(Fact):
    """About the goods of one order."""

    tenant: str
    order_id: str

    @property
    def key(self) -> str:
        return self.order_id


class LinesFact(OrderStockFact):
    """Moves the pieces of its lines from one heap to another."""

    lines: tuple[StockLine, ...]

    @property
    def items(self) -> Iterator[str]:
        """The keys of the stock rows it changes."""
        return (item_key(self.tenant, line.sku) for line in self.lines)

    def pieces(self, item: str) -> int:
        """How many pieces of the item with that key it moves."""
        return sum(line.quantity for line in self.lines if item_key(self.tenant, line.sku) == item)


class StockReserved(LinesFact):
    """All that the order needs is set aside for it."""


class StockRejected(OrderStockFact, failure=True):
    """Not everything that the order needs is there; nothing was set aside."""

    missing: tuple[Shortage, ...]


class StockDispatched(LinesFact):
    """What was set aside for the order has left the warehouse."""


class StockReleased(LinesFact, undoes=(StockReserved,)):
    """What was set aside for the order is free again."""


class ItemFact(Fact):
    """About the stock of one item. `request_id`: the request that it answers."""

    tenant: str
    sku: str
    quantity: int
    request_id: str

    @property
    def key(self) -> str:
        return item_key(self.tenant, self.sku)


class StockReceived(ItemFact):
    """Goods came in and are on hand."""


class StockAdjusted(ItemFact):
    """The number of pieces on hand was corrected by `quantity`, above or below 0."""

    reason: str


def movement_key(asked: ReceiveStock | AdjustStock | StockReceived | StockAdjusted) -> str:
    """What a receipt or correction is known by, so that a warehouse's retry counts once."""
    return f"{asked.tenant}/{asked.sku}/{asked.request_id}"
