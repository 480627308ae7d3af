"""What an order costs, or why it cannot be taken. Pure, and the only place that reads what a customer sent."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from streams.kit.events import State
from streams.kit.keys import is_plain, is_tenant, is_token, item_key
from streams.kit.money import Money, is_currency
from streams.kit.protection import is_protected
from streams.orders.events import PlaceOrder, PricedLine, RejectionReason
from streams.orders.model import Price

MOST_LINES = 100
MOST_PIECES = 10_000
#: The dearest order, 100 lines of 10,000 pieces each at this price, still fits 64 bits.
HIGHEST_PRICE_MINOR = 10**12


class Priced(NamedTuple):
    """The order's lines at the shop's prices."""

    lines: tuple[PricedLine, ...]
    total: Money


class Rejection(NamedTuple):
    """Why the order is not taken; `detail` is for its sender."""

    reason: RejectionReason
    detail: str


def items_of(asked: PlaceOrder) -> tuple[str, ...]:
    """The keys of the prices that the order needs, each once; none that no price could have."""
    if not is_tenant(asked.tenant):
        return ()
    skus = dict.fromkeys(line.sku for line in asked.lines[:MOST_LINES] if is_token(line.sku))
    return tuple(item_key(asked.tenant, sku) for sku in skus)


def priced(asked: PlaceOrder, prices: Mapping[str, State]) -> Priced | Rejection:
    """Price every line, or say what is wrong first: with the request, with an item's price, with its currency."""
    if flaw := next(_flaws(asked), None):
        return Rejection(RejectionReason.INVALID, flaw)
    found = [prices.get(item_key(asked.tenant, line.sku)) for line in asked.lines]
    known = [price if isinstance(price, Price) and price.currency is not None else None for price in found]
    if unpriced := _skus(line.sku for line, price in zip(asked.lines, known, strict=True) if price is None):
        return Rejection(RejectionReason.NOT_PRICED, f"no price is set for {unpriced}")
    sold = [price for price in known if price is not None]
    if foreign := _skus(
        line.sku for line, price in zip(asked.lines, sold, strict=True) if price.currency != asked.currency
    ):
        return Rejection(RejectionReason.WRONG_CURRENCY, f"not sold in {asked.currency}: {foreign}")
    lines = tuple(
        PricedLine(sku=line.sku, quantity=line.quantity, unit_price_minor=price.amount_minor)
        for line, price in zip(asked.lines, sold, strict=True)
    )
    total = sum(line.quantity * line.unit_price_minor for line in lines)
    return Priced(lines, Money(amount_minor=total, currency=asked.currency))


def _flaws(asked: PlaceOrder) -> Iterator[str]:
    """What is wrong with the request itself. Names places, not values: a value may be anything."""
    if not 1 <= len(asked.lines) <= MOST_LINES:
        yield f"an order has 1 to {MOST_LINES} lines, this one has {len(asked.lines)}"
    for number, line in enumerate(asked.lines, start=1):
        if not is_token(line.sku):
            yield f"line {number}: the sku is empty, too long or holds control characters"
        if not 1 <= line.quantity <= MOST_PIECES:
            yield f"line {number}: the quantity is 1 to {MOST_PIECES:,}, not {line.quantity}"
    if not is_currency(asked.currency):
        yield "the currency is not an ISO 4217 code of three capital letters"
    if not is_token(asked.payment_method):
        yield "the payment method is empty, too long or holds control characters"
    for field in asked.ship_to.__struct_fields__:
        text = getattr(asked.ship_to, field)
        if not (is_plain(text) or is_protected(text)):
            yield f"the address's {field} is empty, too long or holds control characters"


def _skus(skus: Iterator[str]) -> str:
    """Up to five items for a message, each once."""
    distinct = list(dict.fromkeys(skus))
    more = f" and {len(distinct) - 5} more" if len(distinct) > 5 else ""
    return ", ".join(distinct[:5]) + more
