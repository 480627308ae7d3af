"""What shipping hears, with the fields it reads, and what it says. What it asks the carrier is in `carrier`."""

from streams.kit.events import Fact, Heard, Value

# -- heard -----------------------------------------------------------------------------------------------------------


class Address(Value):
    """Where the parcel goes to."""

    recipient: str
    street: str
    postal_code: str
    city: str
    country: str


class OrderedLine(Value):
    """How many pieces go into the parcel."""

    quantity: int


class OrderPlaced(Heard, topic="orders"):
    """An order was taken: this is where its parcel would go."""

    tenant: str
    order_id: str
    lines: tuple[OrderedLine, ...]
    ship_to: Address


class OrderCancelled(Heard, topic="orders"):
    """The order is off: nothing may be shipped."""

    order_id: str


class PaymentAuthorized(Heard, topic="billing"):
    """The money is held: a carrier may be asked."""

    order_id: str


# -- said ------------------------------------------------------------------------------------------------------------


class ShippingFact(Fact):
    """About the parcel of one order."""

    tenant: str
    order_id: str

    @property
    def key(self) -> str:
        return self.order_id


class ShipmentPlanned(ShippingFact):
    """It is known where the order's parcel would go; no carrier was asked yet."""

    ship_to: Address
    items: int


class ShipmentBooked(ShippingFact):
    """A carrier took the parcel of the order on."""

    reference: str


class ShipmentRejected(ShippingFact, failure=True):
    """No carrier takes the parcel to that address; the order cannot go on."""

    reason: str


class ShipmentCancelled(ShippingFact, undoes=(ShipmentBooked,)):
    """Nothing will be shipped for a cancelled order. `reference`: of the booking that was called off, if any."""

    reference: str | None
