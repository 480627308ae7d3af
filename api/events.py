"""What the gateway asks of the services: the requests it puts on the log."""

from datetime import datetime

from streams.kit.events import Request, Value
from streams.kit.keys import item_key
from streams.kit.money import Money


class OrderLine(Value):
    """How many of one SKU are wanted. There is no price: prices are the shop's."""

    sku: str
    quantity: int


class Address(Value):
    """Where a parcel goes. `country`: ISO 3166-1 alpha-2."""

    recipient: str
    street: str
    postal_code: str
    city: str
    country: str


class OrderRequest(Request):
    """A request about one order: it goes to the order's partition."""

    tenant: str
    order_id: str

    @property
    def key(self) -> str:
        return self.order_id


class ItemRequest(Request):
    """A request about one SKU of one tenant: it goes to the partition of `tenant/sku`."""

    tenant: str
    sku: str
    request_id: str

    @property
    def key(self) -> str:
        return item_key(self.tenant, self.sku)


class PlaceOrder(OrderRequest, topic="orders.requests", person="customer"):
    """Place this order, once: the same order id asked again changes nothing."""

    customer: str
    lines: tuple[OrderLine, ...]
    currency: str
    payment_method: str
    ship_to: Address


class CancelOrder(OrderRequest, topic="orders.requests", person="asked_by"):
    """Cancel the order, if it is not too late."""

    asked_by: str


class SetPrice(ItemRequest, topic="orders.requests"):
    """From now on one of the SKU costs this; asked before another that was taken, it changes nothing."""

    price: Money
    as_of: datetime | None = None


class ReceiveStock(ItemRequest, topic="inventory.requests"):
    """So many of the SKU came in; the same request id asked again counts nothing twice."""

    quantity: int


ALL: tuple[type[Request], ...] = (PlaceOrder, CancelOrder, SetPrice, ReceiveStock)


def by_topic() -> dict[str, list[type[Request]]]:
    """All requests, by the topic that they are put on."""
    topics: dict[str, list[type[Request]]] = {}
    for request in ALL:
        topics.setdefault(request.topic, []).append(request)
    return topics
