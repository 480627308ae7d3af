"""What the timeline hears: every fact of the dance, and of each only what a story tells.

Personal data (names, addresses) is left out here, so it never reaches this database; the customer's id alone is kept,
to show an order to its owner.
"""

from datetime import datetime

from streams.kit.events import About, Heard, Value
from streams.kit.money import Money


class Line(Value):
    """How many of one SKU."""

    sku: str
    quantity: int


class PricedLine(Line):
    """How many of one SKU, and what one of them costs in minor units."""

    unit_price_minor: int


class Missing(Value):
    """A SKU of which there was too little."""

    sku: str
    requested: int
    available: int


class OrderFact(Heard):
    """What all facts of an order have in common; `at` and `about` come from the envelope."""

    tenant: str
    order_id: str
    at: datetime
    about: About


class ItemFact(Heard):
    """A fact of one SKU of one tenant."""

    tenant: str
    sku: str


# -- orders --------------------------------------------------------------------------------------------------------


class OrderPlaced(OrderFact, topic="orders"):
    """The order exists, at these prices, until the deadline."""

    customer: str
    lines: tuple[PricedLine, ...]
    total: Money
    payment_method: str
    deadline: datetime


class OrderRejected(OrderFact, topic="orders"):
    """The order was refused as it was asked."""

    customer: str
    reason: str
    detail: str


class OrderConfirmed(OrderFact, topic="orders"):
    """The money is in: from here only forward."""


class OrderCancelled(OrderFact, topic="orders"):
    """The order is called off; everybody undoes what they did for it."""

    reason: str


class CancellationRefused(OrderFact, topic="orders"):
    """The customer asked to cancel too late."""

    reason: str


class PriceSet(ItemFact, topic="orders"):
    """A SKU has a new price."""

    price: Money


# -- inventory -----------------------------------------------------------------------------------------------------


class StockReserved(OrderFact, topic="inventory"):
    """All lines of the order are set aside."""

    lines: tuple[Line, ...]


class StockRejected(OrderFact, topic="inventory"):
    """There is too little for the order; nothing was set aside."""

    missing: tuple[Missing, ...]


class StockDispatched(OrderFact, topic="inventory"):
    """What was set aside has left the house."""

    lines: tuple[Line, ...]


class StockReleased(OrderFact, topic="inventory"):
    """What was set aside is for sale again."""

    lines: tuple[Line, ...]


class StockReceived(ItemFact, topic="inventory"):
    """More of a SKU came in."""

    quantity: int


class StockAdjusted(ItemFact, topic="inventory"):
    """A count corrected what is on hand, up or down."""

    quantity: int


# -- billing -------------------------------------------------------------------------------------------------------


class InvoiceOpened(OrderFact, topic="billing"):
    """Billing knows what the order owes."""

    amount: Money
    payment_method: str


class PaymentAuthorized(OrderFact, topic="billing"):
    """The provider set the money aside."""

    amount: Money
    reference: str


class PaymentDeclined(OrderFact, topic="billing"):
    """The provider refused the money."""

    reason: str


class PaymentCaptured(OrderFact, topic="billing"):
    """The money was taken."""

    amount: Money
    reference: str


class PaymentVoided(OrderFact, topic="billing"):
    """Money set aside was let go again."""

    reference: str


class PaymentRefunded(OrderFact, topic="billing"):
    """Money taken was given back."""

    amount: Money
    reference: str


class InvoiceCancelled(OrderFact, topic="billing"):
    """The invoice was closed before any money moved."""


# -- shipping ------------------------------------------------------------------------------------------------------


class ShipmentPlanned(OrderFact, topic="shipping"):
    """Shipping knows where the order goes."""

    items: int


class ShipmentBooked(OrderFact, topic="shipping"):
    """A carrier will take the parcel."""

    reference: str


class ShipmentRejected(OrderFact, topic="shipping"):
    """No carrier takes the parcel."""

    reason: str


class ShipmentCancelled(OrderFact, topic="shipping"):
    """The parcel will not go; `reference` names the booking that was taken back, if there was one."""

    reference: str | None
