"""Bugs planted into the real services, one promise broken by each. The explorer must find every one of them.

A bug is a change of one decision or fold of one service, or of the outside world. Bugs of the kit's clock are in
`test_planted`.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.structs import replace

from contracts.views import services
from streams.billing import model as bills
from streams.billing import simulator as payments
from streams.billing.events import InvoiceCancelled, PaymentCaptured, PaymentRefunded
from streams.billing.provider import ReversePayment, Voided
from streams.inventory import model as goods
from streams.inventory.events import StockReleased, StockReserved
from streams.kit.events import Answer
from streams.kit.money import Money
from streams.kit.service import Service
from streams.kit.simulation import Script
from streams.orders import model as books
from streams.orders.events import CancellationReason, OrderCancelled, OrderConfirmed, OrderPlaced
from streams.shipping import simulator as bookings

Change = Callable[[dict[str, Service]], None]


class Bug(NamedTuple):
    """What is wrong, how it is planted, and the customers of the scenario in which it is looked for."""

    what: str
    plant: Change
    customers: tuple[str, ...] = ("pays",)
    world: Mapping[str, Script[Any]] | None = None

    def dancers(self) -> list[Service]:
        """The real services, with the bug."""
        dancers = {service.name: _copied(service) for service in services()}
        self.plant(dancers)
        return list(dancers.values())


def _copied(service: Service) -> Service:
    other = copy.copy(service)
    other.reactions, other.answering = dict(service.reactions), dict(service.answering)
    other.evolutions = {fact: list(each) for fact, each in service.evolutions.items()}
    return other


# -- how a bug is planted ----------------------------------------------------------------------------------------------


def decides(service: str, heard: str, decide: Callable[..., Any]) -> Change:
    """When this service hears this, it decides otherwise; `decide(right, row, event)`."""

    def plant(dancers: dict[str, Service]) -> None:
        reactions = dancers[service].reactions
        [event] = [event for event in reactions if event.__name__ == heard]
        right = reactions[event].decide
        reactions[event] = reactions[event]._replace(decide=lambda row, *given: decide(right, row, *given))

    return plant


def nothing(dancers: dict[str, Service]) -> None:
    """The services are right: the bug is elsewhere."""


def ignores(service: str, heard: str) -> Change:
    """The reaction is missing."""
    return decides(service, heard, lambda right, row, *given: ())


def ignores_unless(service: str, heard: str, *statuses: str) -> Change:
    """It reacts only in these states."""
    return decides(service, heard, lambda right, row, *given: right(row, *given) if row.status in statuses else ())


def believes(service: str, heard: str, status: Any) -> Change:
    """It decides as if the row were always in this state."""
    return decides(service, heard, lambda right, row, *given: right(replace(row, status=status), *given))


def folds(service: str, fact: type, state: type, evolve: Callable[..., Any]) -> Change:
    """The fact makes something else of this kind of row; `evolve(right, row, fact)`."""

    def plant(dancers: dict[str, Service]) -> None:
        evolutions = dancers[service].evolutions
        evolutions[fact] = [
            each._replace(evolve=lambda row, said, right=each.evolve: evolve(right, row, said))
            if each.state is state
            else each
            for each in evolutions[fact]
        ]

    return plant


# -- decisions that need more than a line ------------------------------------------------------------------------------


def _twice(right: Any, row: Any, *given: Any) -> Iterator[Any]:
    said = list(right(row, *given))
    yield from said
    yield from said


def _says_otherwise(**fields: Any) -> Callable[..., Iterator[Any]]:
    """What it says, or asks, has other values in these fields."""
    return lambda right, row, *given: (replace(said, **fields) for said in right(row, *given))


def _counts_what_is_promised(right: Any, row: Any, placed: Any, stocks: Any) -> Any:
    promised = {key: replace(each, on_hand=each.on_hand + each.reserved) for key, each in stocks.items()}
    return right(row, placed, promised)


def _under_another_key(right: Any, row: Any, *given: Any) -> Iterator[Any]:
    for said in right(row, *given):
        yield ReverseElsewhere(order_id=said.order_id) if isinstance(said, ReversePayment) else said


class ReverseElsewhere(ReversePayment):
    """A reversal under a key of its own."""

    @property
    def key(self) -> str:
        return f"reversal/{self.order_id}"


def _reversed_elsewhere(dancers: dict[str, Service]) -> None:
    decides("billing", "OrderCancelled", _under_another_key)(dancers)
    dancers["billing"].answering[ReverseElsewhere] = dancers["billing"].answering[ReversePayment]


def _fails_when_final(right: Any, row: Any, *given: Any) -> Any:
    if row.status is not books.Status.PLACED:
        raise LookupError("no open order")
    return right(row, *given)


def _confirmed_all_the_same(right: Any, row: Any, *given: Any) -> Iterator[Any]:
    yield OrderConfirmed(tenant=row.tenant, order_id=row.order_id)


def _overdue_all_the_same(right: Any, row: Any, *given: Any) -> Iterator[Any]:
    yield OrderCancelled(tenant=row.tenant, order_id=row.order_id, reason=CancellationReason.DEADLINE)


def _deadline_fires_late(dancers: dict[str, Service]) -> None:
    still = lambda right, row, fact: replace(right(row, fact), due_at=row.due_at)  # noqa: E731
    folds("orders", OrderConfirmed, books.Order, still)(dancers)
    decides("orders", "Due", _overdue_all_the_same)(dancers)


def _voids_what_it_knows_of(right: Any, row: Any, answer: Any) -> Any:
    if isinstance(answer, Voided) and row.status is bills.Status.OPEN:
        raise LookupError("no payment to void")
    return right(row, answer)


def _money_of_a_lost_batch_fails(dancers: dict[str, Service]) -> None:
    answering = dancers["billing"].answering
    right = answering[ReversePayment]
    answering[ReversePayment] = lambda row, answer: _voids_what_it_knows_of(right, row, answer)


def _refused_again(right: Any, row: Any, *given: Any) -> Any:
    return right(replace(row, cancellation_refused=False), *given)


def _waits_for_ever(dancers: dict[str, Service]) -> None:
    never = lambda right, row, fact: replace(right(row, fact), due_at=None)  # noqa: E731
    folds("orders", OrderPlaced, books.Order, never)(dancers)
    ignores("orders", "StockRejected")(dancers)


def _closed_without_asking(right: Any, row: Any, *given: Any) -> Iterator[Any]:
    """Only what the invoice knows of is reversed."""
    if row.status is bills.Status.OPEN:
        yield InvoiceCancelled(tenant=row.tenant, order_id=row.order_id)
    else:
        yield from right(row, *given)


def _forgetful(service: str) -> dict[str, Script[Any]]:
    """An undo that finds nothing is not remembered, so what comes late is still done."""
    scripts = {"billing": payments.SCRIPT, "shipping": bookings.SCRIPT}
    right = scripts[service]

    def answer(record: Any, effect: Any, at: datetime) -> tuple[Any, Answer]:
        after, told = right.answer(record, effect, at)
        return (record if after.status == "closed" else after), told

    return {**scripts, service: right._replace(answer=answer)}


BUGS: Sequence[Bug] = (
    Bug("nothing is set aside for an order", decides("inventory", "OrderPlaced", _says_otherwise(lines=()))),
    Bug(
        "an order's total is not that of its lines",
        decides("orders", "PlaceOrder", _says_otherwise(total=Money(amount_minor=1, currency="EUR"))),
    ),
    Bug("a parcel of nothing is planned", decides("shipping", "OrderPlaced", _says_otherwise(items=0))),
    Bug(
        "a carrier is asked for a parcel of nothing",
        decides("shipping", "PaymentAuthorized", _says_otherwise(items=0)),
    ),
    Bug("a cancelled order's stock is not released", ignores("inventory", "OrderCancelled")),
    Bug("stock is released twice", decides("inventory", "OrderCancelled", _twice)),
    Bug(
        "released pieces are not put back on the shelf",
        folds("inventory", StockReleased, goods.Stock, lambda right, row, fact: row),
    ),
    Bug("a confirmed order's stock is not dispatched", ignores("inventory", "OrderConfirmed")),
    Bug(
        "pieces promised to others count as on hand",
        decides("inventory", "OrderPlaced", _counts_what_is_promised),
        ("pays", "pays"),
    ),
    Bug(
        "what was reserved is not remembered",
        folds("inventory", StockReserved, goods.Reservation, lambda right, row, fact: replace(row, tenant=fact.tenant)),
    ),
    Bug("money held for a cancelled order is kept", ignores("billing", "OrderCancelled")),
    Bug(
        "a captured payment of a cancelled order is not refunded",
        ignores_unless("billing", "OrderCancelled", "open", "authorized", "declined"),
    ),
    Bug(
        "a payment declined at capture is not voided",
        ignores_unless("billing", "OrderCancelled", "open", "authorized", "captured"),
        ("is declined at capture",),
    ),
    Bug(
        "an undo is not asked when the invoice knows of nothing to undo",
        decides("billing", "OrderCancelled", _closed_without_asking),
    ),
    Bug("an undo is asked under another key", _reversed_elsewhere),
    Bug("a provider forgets a reversal that came first", nothing, world=_forgetful("billing")),
    Bug("a carrier forgets a cancellation that came first", nothing, world=_forgetful("shipping")),
    Bug(
        "a refund is noted as a void",
        folds(
            "billing",
            PaymentRefunded,
            bills.Invoice,
            lambda right, row, fact: replace(row, status=bills.Status.VOIDED),
        ),
    ),
    Bug(
        "a capture is asked whatever became of the order",
        believes("billing", "ShipmentBooked", bills.Status.AUTHORIZED),
    ),
    Bug(
        "money is asked for whatever became of the order",
        believes("billing", "StockReserved", bills.Status.OPEN),
    ),
    Bug(
        "money that is in is not remembered",
        folds("billing", PaymentCaptured, bills.Invoice, lambda right, row, fact: row),
    ),
    Bug(
        "a parcel that may be booked is not called off",
        ignores_unless("shipping", "OrderCancelled", "booked"),
    ),
    Bug("a booked parcel is not called off", ignores_unless("shipping", "OrderCancelled", "planned")),
    Bug("an order is confirmed after it was cancelled", decides("orders", "PaymentCaptured", _confirmed_all_the_same)),
    Bug("an order is cancelled after it was confirmed", believes("orders", "CancelOrder", books.Status.PLACED)),
    Bug("a deadline fires after the confirmation", _deadline_fires_late),
    Bug("a deadline is seen and nothing is done about it", ignores("orders", "Due")),
    Bug(
        "a failure of an order that is final already cannot be decided about",
        decides("orders", "PaymentDeclined", _fails_when_final),
        ("is declined",),
    ),
    Bug("money that was held in a lost batch cannot be decided about", _money_of_a_lost_batch_fails),
    Bug("a declined payment is heard by nobody", ignores("orders", "PaymentDeclined"), ("is declined",)),
    Bug("an order is confirmed twice at once", decides("orders", "PaymentCaptured", _twice)),
    Bug("an order is cancelled twice at once", decides("orders", "CancelOrder", _twice)),
    Bug("an invoice is opened twice at once", decides("billing", "OrderPlaced", _twice)),
    Bug("a repeated request places the order again", believes("orders", "PlaceOrder", books.Status.NEW)),
    Bug(
        "an order without a deadline waits for goods that are not there",
        _waits_for_ever,
        ("orders more than there is",),
    ),
    Bug(
        "every wish to cancel that comes too late is refused again",
        decides("orders", "CancelOrder", _refused_again),
    ),
)
