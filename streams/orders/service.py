"""Orders decides: is the order taken, at what price, and does it end confirmed or cancelled?

An order placed is open until exactly one thing ends it: the captured payment, a failure told by another service, its
customer, or its deadline. Whichever is heard first wins; everything after it finds a final order and changes nothing.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from msgspec.structs import replace

from streams.kit.errors import Refused
from streams.kit.events import Due, State
from streams.kit.keys import TOKEN_CHARACTERS, is_plain, is_tenant, is_token, is_uuid, item_key
from streams.kit.money import is_currency
from streams.kit.protection import is_protected
from streams.kit.service import Reads, Said, Service
from streams.orders.events import (
    CancellationReason,
    CancellationRefused,
    CancelOrder,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    PaymentCaptured,
    PaymentDeclined,
    PlaceOrder,
    PriceSet,
    RefusalReason,
    SetPrice,
    ShipmentRejected,
    StockRejected,
)
from streams.orders.model import Order, Price, Status
from streams.orders.pricing import HIGHEST_PRICE_MINOR, Priced, items_of, priced

DEADLINE_SECONDS = 900

orders = Service(
    "orders",
    states=[Order, Price],
    says=[OrderPlaced, OrderRejected, OrderConfirmed, OrderCancelled, CancellationRefused, PriceSet],
)


# -- decisions -------------------------------------------------------------------------------------------------------


@orders.hears(PlaceOrder, reads=Reads(Price, items_of))
def place(order: Order, asked: PlaceOrder, prices: Mapping[str, State]) -> Iterator[Said]:
    """Take the order at the shop's own prices. An order id is placed once: a producer's retry changes nothing."""
    if not (is_uuid(asked.order_id) and asked.order_id == order.order_id):
        raise Refused("an order id is a UUID in lower-case text, and the record's key is the order id")
    if not (is_tenant(asked.tenant) and (is_token(asked.customer) or is_protected(asked.customer))):
        raise Refused("the tenant or the customer is empty, too long or holds characters that are not allowed")
    if order.status is not Status.NEW:
        return
    match priced(asked, prices):
        case Priced(lines, total):
            yield OrderPlaced(
                tenant=asked.tenant,
                order_id=asked.order_id,
                customer=asked.customer,
                lines=lines,
                total=total,
                payment_method=asked.payment_method,
                ship_to=asked.ship_to,
                deadline=asked.at + timedelta(seconds=DEADLINE_SECONDS),
            )
        case rejection:
            yield OrderRejected(
                tenant=asked.tenant,
                order_id=asked.order_id,
                customer=asked.customer,
                reason=rejection.reason,
                detail=rejection.detail,
            )


@orders.hears(PaymentCaptured)
def confirm(order: Order, captured: PaymentCaptured) -> Iterator[Said]:
    """The point of no return. Money that comes after a cancellation is given back by billing, not confirmed."""
    if order.status is Status.PLACED:
        yield OrderConfirmed(tenant=order.tenant, order_id=order.order_id)


@orders.hears(StockRejected)
def cancel_without_stock(order: Order, rejected: StockRejected) -> Iterator[Said]:
    return _cancelled(order, CancellationReason.OUT_OF_STOCK)


@orders.hears(PaymentDeclined)
def cancel_without_money(order: Order, declined: PaymentDeclined) -> Iterator[Said]:
    return _cancelled(order, CancellationReason.PAYMENT_DECLINED)


@orders.hears(ShipmentRejected)
def cancel_without_carrier(order: Order, rejected: ShipmentRejected) -> Iterator[Said]:
    return _cancelled(order, CancellationReason.NOT_SHIPPABLE)


@orders.due
def cancel_overdue(order: Order, due: Due) -> Iterator[Said]:
    return _cancelled(order, CancellationReason.DEADLINE)


@orders.hears(CancelOrder)
def cancel_for_customer(order: Order, asked: CancelOrder) -> Iterator[Said]:
    """Call an open order off; say once that it is too late for a final one. Cancelling twice changes nothing."""
    if asked.order_id != order.order_id:
        raise Refused("the record's key is not the order id")
    if order.status is Status.NEW:
        raise Refused("no such order was placed: place it first, then cancel it")
    if order.tenant != asked.tenant:
        raise Refused("the order belongs to another shop")
    match order.status:
        case Status.PLACED:
            yield from _cancelled(order, CancellationReason.CUSTOMER)
        case Status.CONFIRMED if not order.cancellation_refused:
            yield _refusal(order, RefusalReason.ALREADY_CONFIRMED)
        case Status.REJECTED if not order.cancellation_refused:
            yield _refusal(order, RefusalReason.ALREADY_REJECTED)


@orders.hears(SetPrice)
def set_price(price: Price, asked: SetPrice) -> Iterator[Said]:
    """The price of one item. The last request again, one that was asked before it, or the price it has already, changes
    nothing."""
    if not (is_tenant(asked.tenant) and is_token(asked.sku) and price.item == item_key(asked.tenant, asked.sku)):
        raise Refused("the tenant or the sku is not allowed, or the record's key is not tenant/sku")
    if not 0 <= asked.price.amount_minor <= HIGHEST_PRICE_MINOR:
        raise Refused(f"a price is 0 to {HIGHEST_PRICE_MINOR:,} minor units, not {asked.price.amount_minor:,}")
    if not (is_currency(asked.price.currency) and is_plain(asked.request_id, TOKEN_CHARACTERS)):
        raise Refused("the currency is not an ISO 4217 code, or the request id is not allowed")
    if price.request_id == asked.request_id:
        return
    # A sender whose clock is ahead must not shut out all who ask after it.
    as_of = asked.as_of and min(asked.as_of, asked.at)
    if as_of and price.as_of and as_of < price.as_of:
        return
    # The price that it has already is said as well if it says when: what was asked before it may still come.
    same = (price.amount_minor, price.currency) == (asked.price.amount_minor, asked.price.currency)
    if as_of or not same:
        yield PriceSet(
            tenant=asked.tenant, sku=asked.sku, price=asked.price, request_id=asked.request_id, as_of=as_of
        )


def _cancelled(order: Order, reason: CancellationReason) -> Iterator[Said]:
    """An open order is called off; a final one stays as it is."""
    if order.status is Status.PLACED:
        yield OrderCancelled(tenant=order.tenant, order_id=order.order_id, reason=reason)


def _refusal(order: Order, reason: RefusalReason) -> CancellationRefused:
    return CancellationRefused(tenant=order.tenant, order_id=order.order_id, reason=reason)


# -- folds -----------------------------------------------------------------------------------------------------------


@orders.evolves(OrderPlaced)
def placed(order: Order, fact: OrderPlaced) -> Order:
    return replace(
        order,
        tenant=fact.tenant,
        status=Status.PLACED,
        amount_minor=fact.total.amount_minor,
        currency=fact.total.currency,
        due_at=fact.deadline,
    )


@orders.evolves(OrderRejected)
def rejected(order: Order, fact: OrderRejected) -> Order:
    return replace(order, tenant=fact.tenant, status=Status.REJECTED, reason=fact.reason.value)


@orders.evolves(OrderConfirmed)
def confirmed(order: Order, fact: OrderConfirmed) -> Order:
    return replace(order, status=Status.CONFIRMED, due_at=None)


@orders.evolves(OrderCancelled)
def cancelled(order: Order, fact: OrderCancelled) -> Order:
    return replace(order, status=Status.CANCELLED, reason=fact.reason.value, due_at=None)


@orders.evolves(CancellationRefused)
def cancellation_refused(order: Order, fact: CancellationRefused) -> Order:
    return replace(order, cancellation_refused=True)


@orders.evolves(PriceSet)
def price_set(price: Price, fact: PriceSet) -> Price:
    return replace(
        price,
        amount_minor=fact.price.amount_minor,
        currency=fact.price.currency,
        request_id=fact.request_id,
        as_of=fact.as_of or price.as_of,
    )


orders.verify()
