"""Inventory decides: is everything there that an order needs, and to whom does it belong until the order ends?"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec.structs import replace

from streams.inventory.events import (
    AdjustStock,
    LinesFact,
    OrderCancelled,
    OrderConfirmed,
    OrderedLine,
    OrderPlaced,
    ReceiveStock,
    Shortage,
    StockAdjusted,
    StockDispatched,
    StockLine,
    StockReceived,
    StockRejected,
    StockReleased,
    StockReserved,
    movement_key,
)
from streams.inventory.model import Kind, Movement, Reservation, Status, Stock
from streams.kit.errors import Refused
from streams.kit.events import State
from streams.kit.keys import TOKEN_CHARACTERS, is_plain, is_tenant, is_token, item_key
from streams.kit.service import Reads, Said, Service

#: Of one receipt or correction: nine million of them still fit a column of 64 bits.
MOST_PIECES = 10**12

inventory = Service(
    "inventory",
    states=[Reservation, Stock, Movement],
    says=[StockReserved, StockRejected, StockDispatched, StockReleased, StockReceived, StockAdjusted],
)


# -- what an order needs ---------------------------------------------------------------------------------------------


def items_of(placed: OrderPlaced) -> Iterable[str]:
    """The keys of the stock rows that the order needs, each once."""
    return dict.fromkeys(item_key(placed.tenant, line.sku) for line in placed.lines)


@inventory.hears(OrderPlaced, reads=Reads(Stock, items_of))
def reserve(reservation: Reservation, placed: OrderPlaced, stocks: Mapping[str, State]) -> Iterator[Said]:
    """Set everything aside, or nothing and say what is missing. Lines of one item are counted together."""
    if reservation.status is not Status.NEW:
        return
    wanted = _summed(placed.lines)
    missing = tuple(
        Shortage(sku=line.sku, requested=line.quantity, available=available)
        for line in wanted
        if (available := _on_hand(stocks.get(item_key(placed.tenant, line.sku)))) < line.quantity
    )
    if missing:
        yield StockRejected(tenant=placed.tenant, order_id=placed.order_id, missing=missing)
    else:
        yield StockReserved(tenant=placed.tenant, order_id=placed.order_id, lines=wanted)


@inventory.hears(OrderConfirmed)
def dispatch(reservation: Reservation, confirmed: OrderConfirmed) -> Iterator[Said]:
    if reservation.status is Status.RESERVED:
        yield StockDispatched(tenant=reservation.tenant, order_id=reservation.order_id, lines=reservation.lines)


@inventory.hears(OrderCancelled)
def release(reservation: Reservation, cancelled: OrderCancelled) -> Iterator[Said]:
    """Give back what was set aside. Of a rejected order nothing was."""
    if reservation.status is Status.RESERVED:
        yield StockReleased(tenant=reservation.tenant, order_id=reservation.order_id, lines=reservation.lines)


# -- what a warehouse reports ----------------------------------------------------------------------------------------


def known_movement(asked: ReceiveStock | AdjustStock) -> str:
    """The row that remembers the request. What may not be stored has none, and is refused before anything is decided.

    Its parts make an unambiguous key: only the SKU may hold a '/'.
    """
    request_id = asked.request_id
    is_request_id = is_plain(request_id, TOKEN_CHARACTERS) and "/" not in request_id
    if not (is_tenant(asked.tenant) and is_token(asked.sku) and is_request_id):
        raise Refused("the tenant, sku or request id is empty, too long or holds characters that are not allowed")
    return movement_key(asked)


def item_of(asked: AdjustStock) -> Iterable[str]:
    return (item_key(asked.tenant, asked.sku),)


@inventory.hears(ReceiveStock, key=known_movement)
def receive(movement: Movement, asked: ReceiveStock) -> Iterator[Said]:
    """Count goods in. The same request for the same item again changes nothing."""
    if not 1 <= asked.quantity <= MOST_PIECES:
        raise Refused(f"a receipt is of 1 to {MOST_PIECES:,} pieces, not {asked.quantity:,}")
    if movement.kind is Kind.NEW:
        yield StockReceived(
            tenant=asked.tenant, sku=asked.sku, quantity=asked.quantity, request_id=asked.request_id
        )


@inventory.hears(AdjustStock, key=known_movement, reads=Reads(Stock, item_of))
def adjust(movement: Movement, asked: AdjustStock, stocks: Mapping[str, State]) -> Iterator[Said]:
    """Correct what is on hand. What is set aside for orders cannot be corrected away."""
    if not is_plain(asked.reason):
        raise Refused("the reason is empty, too long or holds control characters")
    if movement.kind is not Kind.NEW:
        return
    on_hand = _on_hand(stocks.get(item_key(asked.tenant, asked.sku)))
    if abs(asked.quantity) > MOST_PIECES or on_hand + asked.quantity < 0:
        raise Refused(f"a correction by {asked.quantity:,} would leave less than nothing of {on_hand:,} on hand")
    if asked.quantity != 0:
        yield StockAdjusted(
            tenant=asked.tenant,
            sku=asked.sku,
            quantity=asked.quantity,
            reason=asked.reason,
            request_id=asked.request_id,
        )


def _summed(lines: Iterable[OrderedLine]) -> tuple[StockLine, ...]:
    """The lines with each item once, in the order of first mention."""
    pieces: dict[str, int] = {}
    for line in lines:
        pieces[line.sku] = pieces.get(line.sku, 0) + line.quantity
    return tuple(StockLine(sku=sku, quantity=quantity) for sku, quantity in pieces.items())


def _on_hand(stock: State | None) -> int:
    return stock.on_hand if isinstance(stock, Stock) else 0


# -- folds: what the order's goods are, what the item's stock is, what the ledger says -------------------------------


@inventory.evolves(StockReserved)
def reserved(reservation: Reservation, fact: StockReserved) -> Reservation:
    return replace(reservation, tenant=fact.tenant, status=Status.RESERVED, lines=fact.lines)


@inventory.evolves(StockRejected)
def rejected(reservation: Reservation, fact: StockRejected) -> Reservation:
    return replace(reservation, tenant=fact.tenant, status=Status.REJECTED)


@inventory.evolves(StockDispatched)
def dispatched(reservation: Reservation, fact: StockDispatched) -> Reservation:
    return replace(reservation, status=Status.DISPATCHED)


@inventory.evolves(StockReleased)
def released(reservation: Reservation, fact: StockReleased) -> Reservation:
    return replace(reservation, status=Status.RELEASED)


def _items(fact: LinesFact) -> Iterator[str]:
    return fact.items


@inventory.evolves(StockReserved, each=_items)
def set_aside(stock: Stock, fact: StockReserved) -> Stock:
    pieces = fact.pieces(stock.item)
    return replace(stock, on_hand=stock.on_hand - pieces, reserved=stock.reserved + pieces)


@inventory.evolves(StockReleased, each=_items)
def put_back(stock: Stock, fact: StockReleased) -> Stock:
    pieces = fact.pieces(stock.item)
    return replace(stock, on_hand=stock.on_hand + pieces, reserved=stock.reserved - pieces)


@inventory.evolves(StockDispatched, each=_items)
def sent_off(stock: Stock, fact: StockDispatched) -> Stock:
    pieces = fact.pieces(stock.item)
    return replace(stock, reserved=stock.reserved - pieces, dispatched=stock.dispatched + pieces)


@inventory.evolves(StockReceived)
def came_in(stock: Stock, fact: StockReceived) -> Stock:
    return replace(stock, on_hand=stock.on_hand + fact.quantity, received=stock.received + fact.quantity)


@inventory.evolves(StockAdjusted)
def corrected(stock: Stock, fact: StockAdjusted) -> Stock:
    return replace(stock, on_hand=stock.on_hand + fact.quantity, adjusted=stock.adjusted + fact.quantity)


@inventory.evolves(StockReceived, key=movement_key)
def receipt(movement: Movement, fact: StockReceived) -> Movement:
    return replace(movement, item=fact.key, kind=Kind.RECEIVED, quantity=fact.quantity)


@inventory.evolves(StockAdjusted, key=movement_key)
def correction(movement: Movement, fact: StockAdjusted) -> Movement:
    return replace(movement, item=fact.key, kind=Kind.ADJUSTED, quantity=fact.quantity, reason=fact.reason)


inventory.verify()
