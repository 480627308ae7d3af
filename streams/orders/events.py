"""What orders hears, with the fields it reads, and what it says."""

from datetime import datetime
from enum import StrEnum

from streams.kit.events import Fact, Heard, Value
from streams.kit.keys import item_key
from streams.kit.money import Money

# -- heard -----------------------------------------------------------------------------------------------------------


class OrderLine(Value):
    """How many pieces of one item are wanted."""

    sku: str
    quantity: int


class Address(Value):
    """Where the parcel goes to."""

    recipient: str
    street: str
    postal_code: str
    city: str
    country: str


class PlaceOrder(Heard, topic="orders.requests", person="customer"):
    """A customer asks a shop for goods."""

    tenant: str
    order_id: str
    customer: str
    lines: tuple[OrderLine, ...]
    currency: str
    payment_method: str
    ship_to: Address
    at: datetime


class CancelOrder(Heard, topic="orders.requests"):
    """Somebody asks to call an order off."""

    tenant: str
    order_id: str


class SetPrice(Heard, topic="orders.requests"):
    """A shop asks that an item cost this much from now on."""

    tenant: str
    sku: str
    price: Money
    request_id: str
    at: datetime
    as_of: datetime | None = None


class StockRejected(Heard, topic="inventory"):
    """Not everything that the order needs is there."""

    order_id: str


class PaymentDeclined(Heard, topic="billing"):
    """The money for the order was refused."""

    order_id: str


class PaymentCaptured(Heard, topic="billing"):
    """The money for the order is in."""

    order_id: str


class ShipmentRejected(Heard, topic="shipping"):
    """No carrier takes the order's parcel."""

    order_id: str


# -- said ------------------------------------------------------------------------------------------------------------


class RejectionReason(StrEnum):
    """Why an order was not taken."""

    NOT_PRICED = "NOT_PRICED"
    WRONG_CURRENCY = "WRONG_CURRENCY"
    INVALID = "INVALID"


class CancellationReason(StrEnum):
    """Why an order was called off."""

    OUT_OF_STOCK = "OUT_OF_STOCK"
    PAYMENT_DECLINED = "PAYMENT_DECLINED"
    NOT_SHIPPABLE = "NOT_SHIPPABLE"
    CUSTOMER = "CUSTOMER"
    DEADLINE = "DEADLINE"


class RefusalReason(StrEnum):
    """Why an order was not called off."""

    ALREADY_CONFIRMED = "ALREADY_CONFIRMED"
    ALREADY_REJECTED = "ALREADY_REJECTED"


class OrderFact(Fact):
    """About one order of one shop."""

    tenant: str
    order_id: str

    @property
    def key(self) -> str:
        return self.order_id


class PricedLine(Value):
    """How many pieces of one item, at the price of the time."""

    sku: str
    quantity: int
    unit_price_minor: int


class OrderPlaced(OrderFact):
    """The shop took the order at these prices; it will be confirmed or cancelled."""

    customer: str
    lines: tuple[PricedLine, ...]
    total: Money
    payment_method: str
    ship_to: Address
    deadline: datetime


class OrderRejected(OrderFact):
    """The shop did not take the order; nothing was set in motion."""

    customer: str
    reason: RejectionReason
    detail: str


class OrderConfirmed(OrderFact, commits=True):
    """The money is in and the goods are on their way: from here the order only goes forward."""


class OrderCancelled(OrderFact):
    """The order is off; everybody undoes what they did for it."""

    reason: CancellationReason


class CancellationRefused(OrderFact):
    """A wish to call the order off came too late; the order stays as it is. Said once an order."""

    reason: RefusalReason


class PriceSet(Fact):
    """From now on the item costs this much."""

    tenant: str
    sku: str
    price: Money
    request_id: str
    as_of: datetime | None = None

    @property
    def key(self) -> str:
        return item_key(self.tenant, self.sku)
