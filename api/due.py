"""Which fact of an order is due next, from whom, and since when: what the dance makes of a story so far.

A table beside the services' own decisions; `tests/models/test_due.py` plays their real decisions and holds it to them.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from streams.kit.shown import CLOSING

#: The facts that end an order, and what it is then.
ENDINGS = {"OrderRejected": "rejected", "OrderConfirmed": "confirmed", "OrderCancelled": "cancelled"}


class Awaited(NamedTuple):
    """After this fact, `speaker` says one of `facts`."""

    after: str
    speaker: str
    facts: tuple[str, ...]


#: While an order is open.
FORWARD = (
    Awaited("OrderPlaced", "inventory", ("StockReserved", "StockRejected")),
    Awaited("OrderPlaced", "billing", ("InvoiceOpened",)),
    Awaited("OrderPlaced", "shipping", ("ShipmentPlanned",)),
    Awaited("StockReserved", "billing", ("PaymentAuthorized", "PaymentDeclined")),
    Awaited("PaymentAuthorized", "shipping", ("ShipmentBooked", "ShipmentRejected")),
    Awaited("ShipmentBooked", "billing", ("PaymentCaptured", "PaymentDeclined")),
    Awaited("PaymentCaptured", "orders", ("OrderConfirmed",)),
    Awaited("StockRejected", "orders", ("OrderCancelled",)),
    Awaited("PaymentDeclined", "orders", ("OrderCancelled",)),
    Awaited("ShipmentRejected", "orders", ("OrderCancelled",)),
)
#: After its end: who sends off or undoes what.
AFTERWARDS = (
    Awaited("OrderConfirmed", "inventory", ("StockDispatched",)),
    Awaited("OrderCancelled", "inventory", ("StockReleased",)),
    Awaited("OrderCancelled", "billing", ("PaymentVoided", "PaymentRefunded", "InvoiceCancelled")),
    Awaited("OrderCancelled", "shipping", ("ShipmentCancelled",)),
)
#: Who refused an order has nothing to undo.
REFUSED = {"inventory": "StockRejected", "shipping": "ShipmentRejected"}


class Told(Protocol):
    """An entry of a story."""

    @property
    def fact(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def detail(self) -> dict[str, Any]: ...


class Due(NamedTuple):
    """`speaker` owes one of `facts` since `since`; if `by` passes first, the order is called off."""

    speaker: str
    facts: tuple[str, ...]
    since: datetime
    by: datetime | None


def due(story: Iterable[Told]) -> list[Due]:
    """What is still to come, those first that are awaited longest; empty: the story is over, or not begun."""
    told = {entry.fact: entry for entry in story}
    ended = not told.keys().isdisjoint(ENDINGS)
    placed = told.get("OrderPlaced")
    deadline = placed.detail.get("deadline") if placed and not ended else None
    by = datetime.fromisoformat(deadline) if deadline else None
    awaited = AFTERWARDS if ended else FORWARD
    open_ = [
        Due(each.speaker, each.facts, told[each.after].at, by)
        for each in awaited
        if each.after in told
        and told.keys().isdisjoint(each.facts)
        and not (ended and REFUSED.get(each.speaker) in told)
    ]
    return sorted(open_, key=lambda each: each.since)


def is_over(facts: Collection[str]) -> bool:
    """The order has ended, and everybody has sent off or undone what they did for it."""
    status = next((ENDINGS[fact] for fact in facts if fact in ENDINGS), None)
    return status is not None and all(not closing.isdisjoint(facts) for closing in CLOSING[status])
