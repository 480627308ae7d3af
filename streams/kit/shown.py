"""An order as the gateway shows it, and its story in an order that is the same at every telling.

Facts that answer each other have one order. Facts that happened side by side are heard in any, so a test that compares
whole stories needs a rule for them: they are told as the saga has them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

#: The facts about an order as the saga has them. What happened side by side is told in this order.
SAGA = (
    "OrderRejected", "OrderPlaced", "InvoiceOpened", "ShipmentPlanned", "StockReserved", "StockRejected",
    "PaymentAuthorized", "PaymentDeclined", "ShipmentBooked", "ShipmentRejected", "PaymentCaptured", "OrderConfirmed",
    "OrderCancelled", "CancellationRefused", "StockDispatched", "StockReleased", "PaymentVoided", "PaymentRefunded",
    "InvoiceCancelled", "ShipmentCancelled",
)  # fmt: skip
#: After an ending, the services that still have something to say, and with which facts they are done.
CLOSING: Mapping[str, tuple[frozenset[str], ...]] = {
    "rejected": (),
    "confirmed": (frozenset({"StockDispatched"}),),
    "cancelled": (
        frozenset({"StockReleased", "StockRejected"}),
        frozenset({"PaymentVoided", "PaymentRefunded", "InvoiceCancelled"}),
        frozenset({"ShipmentCancelled", "ShipmentRejected"}),
    ),
}


class Told(msgspec.Struct, frozen=True):
    """One fact of a story. `id`: speaker/partition/sequence; `cause`: the id of the event that it answers, and
    `took_seconds` after that, if that is in the story."""

    id: str
    fact: str
    speaker: str
    cause: str
    detail: dict[str, Any]
    took_seconds: float | None = None


class Shown(msgspec.Struct, frozen=True):
    """An order as the gateway shows it; `story` in the gateway's own order."""

    status: str
    reason: str
    total_minor: int
    currency: str
    story: tuple[Told, ...]

    @property
    def facts(self) -> list[str]:
        """The names of the facts in causal order, those that happened side by side in the order of `SAGA`."""
        return [told.fact for told in in_causal_order(self.story)]

    @property
    def is_settled(self) -> bool:
        """The order has ended, and everybody has sent off or undone what they did for it."""
        told = {each.fact for each in self.story}
        return self.status in CLOSING and all(told & closing for closing in CLOSING[self.status])

    def detail(self, fact: str) -> Mapping[str, Any]:
        """What the fact of that name says. Raises `StopIteration` when it was not told."""
        return next(told.detail for told in self.story if told.fact == fact)


#: What the gateway shows of an order that it never heard of.
UNKNOWN = Shown("unknown", "", 0, "", ())


def in_causal_order(story: Iterable[Told]) -> list[Told]:
    """The facts such that each comes after its cause and after what its speaker said before; ties as in `SAGA`.

    Raises `ValueError` when facts are causes of each other.
    """
    waiting = list(story)
    ordered: list[Told] = []
    while waiting:
        told = min((each for each in waiting if not _follows_one_of(each, waiting)), key=_place)
        waiting.remove(told)
        ordered.append(told)
    return ordered


def _follows_one_of(told: Told, others: Iterable[Told]) -> bool:
    return any(
        other.id == told.cause or (other.speaker == told.speaker and _sequence(other) < _sequence(told))
        for other in others
    )


def _sequence(told: Told) -> int:
    return int(told.id.rpartition("/")[2])


def _place(told: Told) -> tuple[int, str]:
    """Facts that the saga does not know are told last."""
    return (SAGA.index(told.fact) if told.fact in SAGA else len(SAGA)), told.fact
