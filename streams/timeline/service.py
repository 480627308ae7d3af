"""The timeline: every order's story, and what is on the shelf at which price. It says nothing, it only listens."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from streams.kit.events import Heard
from streams.kit.keys import item_key
from streams.kit.service import Service
from streams.timeline.events import (
    CancellationRefused,
    InvoiceCancelled,
    InvoiceOpened,
    ItemFact,
    OrderCancelled,
    OrderConfirmed,
    OrderFact,
    OrderPlaced,
    OrderRejected,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRefunded,
    PaymentVoided,
    PriceSet,
    ShipmentBooked,
    ShipmentCancelled,
    ShipmentPlanned,
    ShipmentRejected,
    StockAdjusted,
    StockDispatched,
    StockReceived,
    StockRejected,
    StockReleased,
    StockReserved,
)
from streams.timeline.model import Entry, Shelf, Stage, Status, Story, StoryLine, Tag

timeline = Service("timeline", states=[Story, Entry, Shelf, Tag])

REACHES: dict[type[Heard], Stage] = {
    StockReserved: Stage.RESERVED,
    PaymentAuthorized: Stage.AUTHORIZED,
    ShipmentBooked: Stage.BOOKED,
    PaymentCaptured: Stage.CAPTURED,
    StockDispatched: Stage.DISPATCHED,
}
BESIDE: tuple[type[Heard], ...] = (
    InvoiceOpened,
    ShipmentPlanned,
    StockRejected,
    PaymentDeclined,
    ShipmentRejected,
    CancellationRefused,
    StockReleased,
    PaymentVoided,
    PaymentRefunded,
    InvoiceCancelled,
    ShipmentCancelled,
)
OF_ORDERS: tuple[type[Heard], ...] = (OrderPlaced, OrderRejected, OrderConfirmed, OrderCancelled, *REACHES, *BESIDE)


# -- stories -------------------------------------------------------------------------------------------------------


@timeline.evolves(OrderPlaced)
def placed(story: Story, fact: OrderPlaced) -> Story:
    return _told(
        story,
        fact,
        tenant=fact.tenant,
        customer=fact.customer,
        status=Status.PLACED,
        stage=story.stage.or_further(Stage.PLACED),
        lines=tuple(StoryLine(sku=x.sku, quantity=x.quantity, unit_price_minor=x.unit_price_minor) for x in fact.lines),
        total_minor=fact.total.amount_minor,
        currency=fact.total.currency,
        placed_at=fact.at,
    )


@timeline.evolves(OrderRejected)
def rejected(story: Story, fact: OrderRejected) -> Story:
    return _told(
        story,
        fact,
        tenant=fact.tenant,
        customer=fact.customer,
        status=Status.REJECTED,
        reason=fact.reason,
        placed_at=fact.at,
        settled_at=fact.at,
    )


@timeline.evolves(OrderConfirmed)
def confirmed(story: Story, fact: OrderConfirmed) -> Story:
    stage = story.stage.or_further(Stage.CONFIRMED)
    return _told(story, fact, status=Status.CONFIRMED, stage=stage, settled_at=fact.at)


@timeline.evolves(OrderCancelled)
def cancelled(story: Story, fact: OrderCancelled) -> Story:
    return _told(story, fact, status=Status.CANCELLED, reason=fact.reason, settled_at=fact.at)


@timeline.evolves(*REACHES)
def reached(story: Story, fact: OrderFact) -> Story:
    return _told(story, fact, stage=story.stage.or_further(REACHES[type(fact)]))


@timeline.evolves(*BESIDE)
def went_on(story: Story, fact: OrderFact) -> Story:
    return _told(story, fact)


def _told(story: Story, fact: OrderFact, **changes: Any) -> Story:
    return replace(story, length=story.length + 1, updated_at=_later(story.updated_at, fact.at), **changes)


def _later(known: datetime | None, at: datetime) -> datetime:
    # Speakers' clocks differ: an answer may be stamped before its question, but an update never goes back.
    return at if known is None else max(known, at)


# -- entries -------------------------------------------------------------------------------------------------------

COLUMNS = frozenset({"tenant", "order_id", "customer", "at", "about"})
DETAILS = {fact: tuple(name for name in fact.__struct_fields__ if name not in COLUMNS) for fact in OF_ORDERS}


def _id_of(fact: OrderFact) -> str:
    return fact.about.id


@timeline.evolves(*OF_ORDERS, key=_id_of)
def noted(entry: Entry, fact: OrderFact) -> Entry:
    return replace(
        entry,
        order_id=fact.order_id,
        ordinal=fact.about.ordinal,
        fact=fact.about.name,
        speaker=fact.about.speaker,
        at=fact.at,
        cause=fact.about.cause,
        correlation=fact.about.correlation,
        detail=msgspec.Raw(msgspec.json.encode({name: getattr(fact, name) for name in DETAILS[type(fact)]})),
    )


# -- shelves and price tags ----------------------------------------------------------------------------------------


def _item_of(fact: ItemFact) -> str:
    return item_key(fact.tenant, fact.sku)


def _items_of(fact: StockReserved | StockReleased | StockDispatched) -> Iterable[str]:
    """Each SKU once, however many lines name it."""
    return dict.fromkeys(item_key(fact.tenant, line.sku) for line in fact.lines)


def _count(shelf: Shelf, fact: StockReserved | StockReleased | StockDispatched) -> int:
    return sum(line.quantity for line in fact.lines if item_key(fact.tenant, line.sku) == shelf.item)


@timeline.evolves(StockReceived, StockAdjusted, key=_item_of)
def counted(shelf: Shelf, fact: StockReceived | StockAdjusted) -> Shelf:
    return replace(shelf, available=shelf.available + fact.quantity)


@timeline.evolves(StockReserved, each=_items_of)
def set_aside(shelf: Shelf, fact: StockReserved) -> Shelf:
    count = _count(shelf, fact)
    return replace(shelf, available=shelf.available - count, reserved=shelf.reserved + count)


@timeline.evolves(StockReleased, each=_items_of)
def put_back(shelf: Shelf, fact: StockReleased) -> Shelf:
    count = _count(shelf, fact)
    return replace(shelf, available=shelf.available + count, reserved=shelf.reserved - count)


@timeline.evolves(StockDispatched, each=_items_of)
def taken_away(shelf: Shelf, fact: StockDispatched) -> Shelf:
    count = _count(shelf, fact)
    return replace(shelf, reserved=shelf.reserved - count, dispatched=shelf.dispatched + count)


@timeline.evolves(PriceSet, key=_item_of)
def priced(tag: Tag, fact: PriceSet) -> Tag:
    return replace(tag, amount_minor=fact.price.amount_minor, currency=fact.price.currency)


timeline.verify()
