"""How orders begin and end, as the topic `orders` tells it; and that every request to place one was answered."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pavane.audit.ledger import Ledger, Said
from pavane.audit.report import Tally, Verdict
from pavane.audit.snapshot import Snapshot
from pavane.audit.waiting import parked, unheard
from pavane.operators.words import count
from streams.kit.events import from_milliseconds, milliseconds

TOPIC = "orders"
REQUESTS = "orders.requests"
PLACED, REJECTED, CONFIRMED, CANCELLED = "OrderPlaced", "OrderRejected", "OrderConfirmed", "OrderCancelled"
BEGINNINGS = frozenset({PLACED, REJECTED})
ENDINGS = frozenset({REJECTED, CONFIRMED, CANCELLED})
GRACE_SECONDS = 60
"""How long an order may be open after it was due to end: deadlines are looked for, not waited for."""


@dataclass(slots=True)
class OrderFacts:
    """What was said about one order on the topic `orders`, in order: names and sequences. `goods`: what it is over, so
    many `pieces`; `lines_minor`: what these cost together.

    `due_ms` (milliseconds since 1970): from when on it is to be called off, if it is still open. That is its deadline,
    or when it was placed if that was later, as after an outage of `orders`. `ended_ms`: when its end was said.
    """

    partition: int
    said: list[tuple[str, int]] = field(default_factory=list)
    total_minor: int = 0
    currency: str = ""
    goods: str = ""
    pieces: int = 0
    lines_minor: int = 0
    due_ms: int | None = None
    ended_ms: int = 0

    @property
    def ending(self) -> tuple[str, int] | None:
        """The first fact that ended the order, and its sequence."""
        return next((each for each in self.said if each[0] in ENDINGS), None)

    def take(self, fields: Mapping[str, Any]) -> None:
        """Note what OrderPlaced says in its fields that the order is over."""
        lines: Sequence[Mapping[str, Any]] = fields["lines"]
        self.total_minor, self.currency = fields["total"]["amount_minor"], fields["total"]["currency"]
        self.goods = goods((line["sku"], line["quantity"]) for line in lines)
        self.pieces = sum(line["quantity"] for line in lines)
        self.lines_minor = sum(line["quantity"] * line["unit_price_minor"] for line in lines)

    def count(self, names: Collection[str]) -> int:
        """How many of its facts have one of these names."""
        return sum(name in names for name, _ in self.said)


class Orders:
    """Collects the facts of every order."""

    def __init__(self) -> None:
        self.by_id: dict[str, OrderFacts] = {}

    def hear(self, said: Said) -> None:
        """Note a fact that begins or ends an order."""
        if said.topic != TOPIC or said.name not in BEGINNINGS | ENDINGS:
            return
        order = self.by_id.get(said.key)
        if order is None:
            order = self.by_id[said.key] = OrderFacts(said.partition)
        if said.name in ENDINGS and order.ending is None:
            order.ended_ms = said.timestamp
        order.said.append((said.name, said.sequence))
        if said.name == PLACED:
            order.take(said.fields)
            order.due_ms = max(milliseconds(said.fields["deadline"]), said.timestamp)


def goods(lines: Iterable[tuple[str, int]]) -> str:
    """How many pieces of each SKU these lines are, in words that are equal however they are ordered or divided."""
    pieces: dict[str, int] = {}
    for sku, quantity in lines:
        pieces[sku] = pieces.get(sku, 0) + quantity
    return str(dict(sorted(pieces.items())))


def ends_once(orders: Mapping[str, OrderFacts], snapshot: Snapshot, now: datetime) -> Verdict:
    """Every order was placed or rejected once, first, and ended at most once; open ones are within their deadline.

    The deadline of an order waits as well while a record about it is parked, for as long as anything may wait.
    """
    tally = Tally("orders-end", "Every accepted order ends exactly once: rejected, confirmed or cancelled.")
    for order_id, order in orders.items():
        tally.checked += 1
        story = ", ".join(f"{name} ({TOPIC}/{order.partition}/{sequence})" for name, sequence in order.said)
        if order.count(BEGINNINGS) != 1:
            what = "was begun more than once" if order.count(BEGINNINGS) else "ended without having begun"
            tally.violation(f"order {order_id} {what}: {story}")
        elif order.said[0][0] not in BEGINNINGS:
            tally.violation(f"order {order_id} ended before it began: {story}")
        elif order.count(ENDINGS) > 1:
            tally.violation(f"order {order_id} ended more than once: {story}")
        elif order.count(ENDINGS) == 0:
            overdue_seconds = (milliseconds(now) - order.due_ms) / 1000 if order.due_ms is not None else 0
            head = snapshot.heads.get((order.partition, order_id))
            if order.due_ms is None or overdue_seconds <= GRACE_SECONDS:
                tally.unsettled += 1
            elif head is not None:
                waiting = parked(snapshot.name, head)
                what = f"order {order_id} is open after it was due to end: {waiting.what}"
                tally.wait(what, from_milliseconds(order.due_ms), now, redrive=waiting.redrive)
            else:
                tally.violation(
                    f"order {order_id} is open {overdue_seconds:.0f} s after it was due to end: see whether "
                    f"orders works on lane {order.partition} (/health/ready), and what is in the dead letters"
                )
    return tally.verdict()


def requests_answered(
    ledger: Ledger, snapshot: Snapshot, orders: Mapping[str, OrderFacts], now: datetime
) -> Verdict:
    """Every PlaceOrder that `orders` has heard, and whatever nobody can read, was answered. All are heard in time."""
    tally = Tally("requests-answered", "Every PlaceOrder was answered by a fact or put aside as a dead letter.")
    put_aside = {letter.origin for letter in ledger.dead_letters}
    place = ledger.names.known(b"PlaceOrder")
    for (topic, partition), requests in ledger.requests.items():
        if topic != REQUESTS:
            continue
        position, first_kept, unkept = snapshot.position(topic, partition), ledger.letters_from(topic, partition), 0
        for offset, at, key, name in zip(
            requests.offsets, requests.timestamps, requests.keys, requests.names, strict=True
        ):
            if name not in (place, -1):
                continue
            tally.checked += 1
            about = ledger.keys.text(key)
            what = f"{topic}/{partition}/{offset}: {'PlaceOrder' if name != -1 else 'a record that is no event'} about"
            if offset >= position or (topic, partition, offset) in snapshot.unhandled:
                head = snapshot.heads.get((partition, about))
                waiting = unheard(snapshot.name) if head is None else parked(snapshot.name, head)
                tally.wait(f"{what} {about}: {waiting.what}", from_milliseconds(at), now, redrive=waiting.redrive)
                continue
            if (name != -1 and about in orders) or f"{topic}/{partition}/{offset}" in put_aside:
                continue
            if offset < first_kept:
                unkept += 1
            else:
                tally.violation(f"{what} {about} was heard, but no fact and no dead letter answers it")
        if unkept:
            tally.note(f"{topic}/{partition}: {count(unkept, 'answer')} may be a dead letter that is no longer kept")
    return tally.verdict()
