"""What billing hears, with the fields it reads, and what it says. What it asks the provider is in `provider`."""

from streams.kit.events import Fact, Heard
from streams.kit.money import Money

# -- heard -----------------------------------------------------------------------------------------------------------


class OrderPlaced(Heard, topic="orders"):
    """An order was taken: this is what it costs and how it is paid."""

    tenant: str
    order_id: str
    total: Money
    payment_method: str


class OrderCancelled(Heard, topic="orders"):
    """The order is off: whatever money there is goes back."""

    order_id: str


class StockReserved(Heard, topic="inventory"):
    """The goods are set aside: the money may be asked for."""

    order_id: str


class ShipmentBooked(Heard, topic="shipping"):
    """A carrier takes the parcel: the money may be taken."""

    order_id: str


# -- said ------------------------------------------------------------------------------------------------------------


class BillingFact(Fact):
    """About the money for one order."""

    tenant: str
    order_id: str

    @property
    def key(self) -> str:
        return self.order_id


class InvoiceOpened(BillingFact):
    """An invoice over the order's total is open; no money was asked for yet."""

    amount: Money
    payment_method: str


class PaymentAuthorized(BillingFact):
    """The payment provider holds the money for the order."""

    amount: Money
    reference: str


class PaymentDeclined(BillingFact, failure=True):
    """The payment provider refused the money, at authorization or at capture; the order cannot go on."""

    reason: str


class PaymentCaptured(BillingFact):
    """The money for the order is in."""

    amount: Money
    reference: str


class PaymentVoided(BillingFact, undoes=(PaymentAuthorized,)):
    """The money held for a cancelled order was let go; none was taken."""

    reference: str


class PaymentRefunded(BillingFact, undoes=(PaymentCaptured,)):
    """The money taken for a cancelled order was given back."""

    amount: Money
    reference: str


class InvoiceCancelled(BillingFact):
    """The invoice of a cancelled order is closed; there was no money to give back."""
