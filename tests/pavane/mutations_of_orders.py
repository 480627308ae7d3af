"""Orders that did not end as they must, and stock that does not add up, each broken on purpose."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from pavane.audit.world import Charge, Parcel
from streams.billing.model import Invoice
from streams.billing.model import Status as Paid
from streams.inventory.events import StockLine
from streams.inventory.model import Movement, Reservation, Stock
from streams.inventory.model import Status as Goods
from streams.shipping.model import Shipment
from streams.shipping.model import Status as Sent
from tests.pavane.finished import LETTERS, Run
from tests.pavane.mutation import STRAY, Mutation

ENDS, ANSWERED = "orders-end", "requests-answered"
CONFIRMED, UNDONE, STOCK = "confirmed-paid-and-sent", "cancelled-undone", "stock-balances"

OTHER_GOODS = (StockLine(sku="another", quantity=1),)


def end_first(run: Run) -> None:
    """The order's end stands where its beginning stood."""
    placed, confirmed = run.fact("OrderPlaced"), run.fact("OrderConfirmed")
    run.instead(placed, replace(placed, value=confirmed.value))
    run.instead(confirmed, replace(confirmed, value=placed.value))


def years_later(run: Run) -> None:
    """The order never ended, and its deadline is long over."""
    run.lose("OrderConfirmed")
    run.look.now += timedelta(days=365)


def parked_for_hours(run: Run) -> None:
    """Billing has parked the cancellation, and nobody decides about it."""
    run.park("billing", run.cancelled, run.fact("OrderCancelled", run.cancelled))
    run.change("billing", Invoice, run.cancelled, status=Paid.AUTHORIZED)
    run.look.now += timedelta(hours=2)


def unheard_for_days(run: Run) -> None:
    """Inventory has not come as far as the end of the order."""
    run.lane("inventory", run.confirmed, orders=-100)
    run.change("inventory", Reservation, run.confirmed, status=Goods.RESERVED)
    run.look.now += timedelta(days=90)


def letters_gone(run: Run) -> None:
    """The log has no dead letters any more."""
    for where in [where for where in run.look.log if where[0] == LETTERS]:
        del run.look.log[where]


OF_ORDERS: Sequence[Mutation] = [
    Mutation(
        "a second final fact",
        lambda run: run.say_next("OrderCancelled", run.confirmed),
        ENDS,
        "{confirmed} ended more than once",
    ),
    Mutation(
        "an order placed twice",
        lambda run: run.say_next("OrderPlaced", run.confirmed),
        ENDS,
        "{confirmed} was begun more than",
    ),
    Mutation(
        "an end without a beginning",
        lambda run: run.say_next("OrderConfirmed", STRAY),
        ENDS,
        "ended without having begun",
    ),
    Mutation("an end before the beginning", end_first, ENDS, "{confirmed} ended before it began"),
    Mutation("an order left open", years_later, ENDS, "after it was due to end"),
    Mutation(
        "a request that nobody answered",
        lambda run: run.lose("OrderPlaced", "OrderConfirmed"),
        ANSWERED,
        "about {confirmed}",
    ),
    Mutation("garbage that nobody put aside", letters_gone, ANSWERED, "a record that is no event"),
    Mutation(
        "a double capture", lambda run: run.charge(run.confirmed, captures=2), CONFIRMED, "money was captured 2 times"
    ),
    Mutation(
        "a payment that the provider lost",
        lambda run: run.look.charges.pop(run.confirmed),
        CONFIRMED,
        "payment but: none",
    ),
    Mutation(
        "a capture of less", lambda run: run.charge(run.confirmed, amount_minor=1), CONFIRMED, "the provider took 1 EUR"
    ),
    Mutation(
        "a capture that is still an authorization",
        lambda run: run.charge(run.confirmed, status="authorized", captures=0),
        CONFIRMED,
        "one captured payment but",
    ),
    Mutation(
        "money for a free order",
        lambda run: run.look.charges.update({run.free: [Charge("x", run.free, "captured", 1, "EUR", 1)]}),
        CONFIRMED,
        "it is free, but",
    ),
    Mutation(
        "a capture for a rejected order",
        lambda run: run.look.charges.update({run.rejected: [Charge("x", run.rejected, "captured", 1, "EUR", 1)]}),
        CONFIRMED,
        "was rejected, but its money was captured",
    ),
    Mutation(
        "an invoice left open",
        lambda run: run.change("billing", Invoice, run.confirmed, status=Paid.AUTHORIZED),
        CONFIRMED,
        "invoice is authorized, not captured",
    ),
    Mutation(
        "an invoice over another amount",
        lambda run: run.add("billing", Invoice, run.confirmed, amount_minor=1),
        CONFIRMED,
        "its invoice is over",
    ),
    Mutation(
        "a stock not dispatched",
        lambda run: run.change("inventory", Reservation, run.confirmed, status=Goods.RESERVED),
        CONFIRMED,
        "stock is reserved, not dispatched",
    ),
    Mutation(
        "a stock dispatched for nothing",
        lambda run: run.change("inventory", Reservation, run.cancelled, status=Goods.DISPATCHED),
        CONFIRMED,
        "but its stock was dispatched",
    ),
    Mutation(
        "other goods dispatched than were ordered",
        lambda run: run.change("inventory", Reservation, run.confirmed, lines=OTHER_GOODS),
        CONFIRMED,
        "but its stock is {{'another': 1}} (dispatched)",
    ),
    Mutation(
        "other goods set aside than were ordered",
        lambda run: run.change("inventory", Reservation, run.cancelled, lines=OTHER_GOODS),
        CONFIRMED,
        "but its stock is {{'another': 1}} (released)",
    ),
    Mutation(
        "nothing dispatched of what was ordered",
        lambda run: run.change("inventory", Reservation, run.confirmed, lines=()),
        CONFIRMED,
        "but its stock is {{}} (dispatched)",
    ),
    Mutation(
        "nothing set aside of what was ordered",
        lambda run: run.change("inventory", Reservation, run.cancelled, lines=()),
        CONFIRMED,
        "but its stock is {{}} (released)",
    ),
    Mutation(
        "a total that is not that of the lines",
        lambda run: run.tell("OrderPlaced", total={"amount_minor": 1, "currency": "EUR"}),
        CONFIRMED,
        "{confirmed} has a total of 1 EUR, but its lines cost 2000",
    ),
    Mutation(
        "a shipment of fewer pieces",
        lambda run: run.change("shipping", Shipment, run.confirmed, items=0),
        CONFIRMED,
        "{confirmed} is of 2 pieces, but its shipment of 0",
    ),
    Mutation(
        "a parcel of fewer pieces",
        lambda run: run.parcel(run.confirmed, items=0),
        CONFIRMED,
        "{confirmed} is of 2 pieces, but the carrier has shipment/{confirmed} of 0",
    ),
    Mutation(
        "a shipment not booked",
        lambda run: run.change("shipping", Shipment, run.confirmed, status=Sent.PLANNED),
        CONFIRMED,
        "shipment is planned, not booked",
    ),
    Mutation(
        "a confirmation that nobody acts on",
        unheard_for_days,
        CONFIRMED,
        "'pavane lanes list inventory'; until then its stock is reserved, not dispatched (for 90d, since",
    ),
    Mutation(
        "a parcel booked twice",
        lambda run: run.parcel(run.confirmed, bookings=2),
        CONFIRMED,
        "one parcel booked once but",
    ),
    Mutation(
        "a parcel that the carrier lost",
        lambda run: run.look.parcels.pop(run.confirmed),
        CONFIRMED,
        "one parcel booked once but: none",
    ),
    Mutation(
        "a cancellation that is parked for hours",
        parked_for_hours,
        UNDONE,
        "in billing it is held up by",
    ),
    Mutation(
        "an authorization left over",
        lambda run: run.charge(run.cancelled, status="authorized"),
        UNDONE,
        "still has payment/{cancelled} authorized",
    ),
    Mutation(
        "a capture left over",
        lambda run: run.charge(run.cancelled, status="captured"),
        UNDONE,
        "still has payment/{cancelled} captured",
    ),
    Mutation(
        "a reversal never asked for",
        lambda run: run.look.charges.pop(run.cancelled),
        UNDONE,
        "was never asked to reverse",
    ),
    Mutation(
        "a reversal of another kind",
        lambda run: run.charge(run.cancelled, status="refunded"),
        UNDONE,
        "the provider says refunded",
    ),
    Mutation(
        "an invoice of a cancelled order",
        lambda run: run.change("billing", Invoice, run.cancelled, status=Paid.OPEN),
        UNDONE,
        "not voided, refunded or cancelled",
    ),
    Mutation(
        "a stock never released",
        lambda run: run.change("inventory", Reservation, run.cancelled, status=Goods.RESERVED),
        UNDONE,
        "reserved, not released",
    ),
    Mutation(
        "a shipment of a cancelled order",
        lambda run: run.change("shipping", Shipment, run.cancelled, status=Sent.BOOKED),
        UNDONE,
        "booked, not cancelled",
    ),
    Mutation(
        "a shipment left over",
        lambda run: run.look.parcels.update({run.cancelled: [Parcel("x", run.cancelled, "booked", 2, 1)]}),
        UNDONE,
        "the carrier still has x booked",
    ),
    Mutation(
        "a parcel of a rejected order",
        lambda run: run.look.parcels.update({run.rejected: [Parcel("x", run.rejected, "closed", 0, 0)]}),
        UNDONE,
        "{rejected} was rejected, but there is",
    ),
    Mutation(
        "money of an order that nobody placed",
        lambda run: run.look.charges.update({STRAY: [Charge("x", STRAY, "closed", 1, "EUR", 0)]}),
        UNDONE,
        "was never placed, but there is something",
    ),
    Mutation(
        "a negative stock",
        lambda run: run.change("inventory", Stock, run.item, on_hand=-1),
        STOCK,
        "{item}: on_hand is -1, below zero",
    ),
    Mutation(
        "pieces from nowhere", lambda run: run.add("inventory", Stock, run.item, on_hand=1), STOCK, "{item}: received"
    ),
    Mutation(
        "pieces that came and did not",
        lambda run: run.add("inventory", Stock, run.item, on_hand=1, received=1),
        STOCK,
        "the facts of inventory make it",
    ),
    Mutation(
        "pieces promised twice",
        lambda run: run.add("inventory", Stock, run.item, on_hand=-1, reserved=1),
        STOCK,
        "its reservations sum up to",
    ),
    Mutation(
        "a receipt that is gone",
        lambda run: run.look.seen["inventory"].rows[Movement].clear(),
        STOCK,
        "its movements sum up to 0",
    ),
    Mutation(
        "a stock row that is gone",
        lambda run: run.drop("inventory", Stock, run.item),
        STOCK,
        "{item}: the stock row is missing",
    ),
]
