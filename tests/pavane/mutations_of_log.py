"""Facts lost, doubled, displaced or said before their causes, and rows that are not their fold: all on purpose."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from streams.billing.model import Invoice
from streams.kit import envelope
from streams.kit.log import Record
from streams.orders.model import Order, Status
from streams.timeline.model import Entry, Shelf, Story
from tests.pavane.audited import headed
from tests.pavane.finished import Run
from tests.pavane.mutation import Mutation
from tests.pavane.mutations_of_orders import letters_gone

SEQUENCES, LOST, CAUSES = "sequences", "nothing-lost", "after-causes"
ROWS, VIEWS, ENTRIES = "rows-rebuilt", "views-rebuilt", "entries-told"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
UNREAD = 10**9
"""An offset behind which nobody has gone on."""


def elsewhere(run: Run) -> None:
    """A fact stands in another partition than it says."""
    fact = run.fact("ShipmentPlanned")
    partition = (fact.partition + 1) % run.look.partitions
    moved = replace(fact, partition=partition, offset=UNREAD)
    run.look.log.setdefault((fact.topic, partition), []).append(moved)


def another_key(run: Run) -> None:
    """A fact has a key that belongs elsewhere."""
    fact = run.fact("ShipmentPlanned")
    key = next(key for key in map(str.encode, map(str, range(1000))) if run.look.home(key) != fact.partition)
    run.instead(fact, replace(fact, key=key))


def question_last(run: Run) -> None:
    """Shipping knows the payment, and not the order that it is for."""
    paid = envelope.read(run.fact("PaymentAuthorized").headers)
    run.head("ShipmentPlanned", clock=envelope.write_clock({"billing": paid.sequence}).decode(), cause=paid.id)


def known_too_early(run: Run) -> None:
    """The order's first fact knows an answer to itself."""
    run.clock("OrderPlaced", inventory=envelope.read(run.fact("StockReserved").headers).sequence)


def short_log(run: Run) -> None:
    """The log ends before what was read."""
    run.look.ends["orders", run.fact("OrderPlaced").partition] -= 1


def entry(run: Run) -> str:
    """The entry that tells of the confirmed order's capture."""
    return envelope.read(run.fact("PaymentCaptured").headers).id


def told(**values: Any) -> Callable[[Run], None]:
    """That entry says something else."""
    return lambda run: run.change("timeline", Entry, entry(run), **values)


def again(name: str, **values: Any) -> Callable[[Run], None]:
    """A fact about the confirmed order stands in the log once more, with other values."""
    return lambda run: run.instead(run.fact(name), run.fact(name), replace(run.fact(name), **values))


def foreign(topic: str, *headers: tuple[str, bytes | None]) -> Callable[[Run], None]:
    """Somebody else writes on a topic."""
    return lambda run: run.look.log.setdefault((topic, 0), []).append(Record(topic, 0, UNREAD, 0, b"k", b"v", headers))


def swapped(run: Run) -> None:
    """The order's first fact stands after its second."""
    placed, confirmed = run.fact("OrderPlaced"), run.fact("OrderConfirmed")
    run.instead(placed)
    run.instead(confirmed, confirmed, placed)


def restored_otherwise(run: Run) -> None:
    """A fact stood behind a gap, and is said again behind what was missing, with other bytes."""
    placed = run.fact("OrderPlaced")
    records = run.look.log[placed.topic, placed.partition]
    missing, stray = records[-2:]
    records[-2:] = [stray, missing, replace(stray, value=b"other")]


def letter_of_another_lane(run: Run) -> None:
    """A dead letter of orders says that it is one of billing's."""
    run.instead(run.letter, headed(run.letter, dead_letter_id="billing.dead-letters/0/1"))


OF_THE_LOG: Sequence[Mutation] = [
    Mutation("a gap", lambda run: run.lose("StockReserved"), SEQUENCES, "1 facts of inventory are missing"),
    Mutation("facts in another order", swapped, SEQUENCES, "appears for the first time after"),
    Mutation(
        "a fact said again with other bytes",
        again("ShipmentPlanned", value=b"other"),
        SEQUENCES,
        "but with other bytes than the first time",
    ),
    Mutation(
        "a fact committed with other bytes",
        lambda run: run.commit("OrderPlaced", b"other"),
        SEQUENCES,
        "was committed with other bytes than the log holds",
    ),
    Mutation("a fact in the wrong partition", elsewhere, SEQUENCES, "it was written to the wrong topic or partition"),
    Mutation("a key that belongs elsewhere", another_key, SEQUENCES, "which belongs in partition"),
    Mutation(
        "a fact without a key",
        lambda run: run.instead(run.fact("ShipmentPlanned"), replace(run.fact("ShipmentPlanned"), key=None)),
        SEQUENCES,
        "has no key",
    ),
    Mutation(
        "a clock that goes back",
        lambda run: run.head("OrderConfirmed", clock="{}"),
        SEQUENCES,
        "the fact before it knew",
    ),
    Mutation("a foreign record", foreign("billing"), SEQUENCES, "somebody else than billing wrote it"),
    Mutation(
        "a header without a value",
        foreign("billing", ("ce_id", None)),
        SEQUENCES,
        "somebody else than billing wrote it",
    ),
    Mutation(
        "a stray said again with other bytes",
        restored_otherwise,
        SEQUENCES,
        "but with other bytes than the first time",
    ),
    Mutation("a dead letter of another lane", letter_of_another_lane, LOST, "has committed orders.dead-letters/"),
    Mutation(
        "a duplicate dead letter with other bytes",
        lambda run: run.instead(run.letter, run.letter, replace(run.letter, value=b"other")),
        SEQUENCES,
        "but with other bytes than the first time",
    ),
    Mutation(
        "bytes that are no event",
        lambda run: run.instead(run.fact("InvoiceOpened"), replace(run.fact("InvoiceOpened"), value=b"\0")),
        SEQUENCES,
        "cannot be read",
    ),
    Mutation(
        "a lost fact", lambda run: run.lose("PaymentAuthorized"), LOST, "but neither the log nor the outbox holds it"
    ),
    Mutation(
        "a database that was made anew",
        lambda run: run.look.wipe("billing"),
        LOST,
        "but the database of billing has committed 0",
    ),
    Mutation(
        "a lane that its database has forgotten",
        lambda run: run.look.wipe("orders", run.fact("OrderPlaced").partition),
        LOST,
        "but the database of orders has committed 0",
    ),
    Mutation("a lost dead letter", letters_gone, LOST, "has committed orders.dead-letters/"),
    Mutation(
        "a fact never committed",
        lambda run: run.say_next("OrderCancelled", run.confirmed),
        LOST,
        "restored from an older copy",
    ),
    Mutation(
        "a duplicate dead letter", lambda run: run.next_letter(), LOST, "but the database of orders has committed"
    ),
    Mutation(
        "a fact passed over",
        lambda run: run.lane("inventory", run.confirmed, orders=-1),
        LOST,
        "facts were passed over",
    ),
    Mutation(
        "a clock ahead of the log",
        lambda run: run.lane("inventory", run.confirmed, orders=5),
        LOST,
        "the log does not hold what it heard",
    ),
    Mutation(
        "hearsay of what was never said",
        lambda run: run.lane("inventory", run.confirmed, shipping=10**6),
        LOST,
        "knows of shipping up to",
    ),
    Mutation("a log that ends too early", short_log, LOST, "the log lost 1 records"),
    Mutation("a lost cause", lambda run: run.lose("OrderPlaced"), CAUSES, "is not in the log"),
    Mutation(
        "a wrong cause",
        lambda run: run.head("ShipmentPlanned", cause=envelope.read(run.fact("StockDispatched").headers).id),
        CAUSES,
        "is beyond its clock",
    ),
    Mutation(
        "a cause about something else",
        lambda run: run.head("StockReserved", cause=f"orders.due/{run.fact('StockReserved').partition}/x"),
        CAUSES,
        "a deadline of x is about x",
    ),
    Mutation(
        "a cause that cannot be read",
        lambda run: run.head("InvoiceOpened", cause="?"),
        CAUSES,
        "it names no cause that can be read",
    ),
    Mutation(
        "a clock that knows the future",
        lambda run: run.clock("StockReserved", orders=10**6),
        CAUSES,
        "its clock knows orders up to 1000000",
    ),
    Mutation(
        "a request known before it was sent",
        lambda run: run.clock("OrderPlaced", **{"orders.requests": 10**6}),
        CAUSES,
        "its clock knows orders.requests up to",
    ),
    Mutation("an answer heard before its question", question_last, CAUSES, "an answer was heard before its question"),
    Mutation("a fact known before it was said", known_too_early, CAUSES, "which knew orders up to"),
]

OF_ROWS: Sequence[Mutation] = [
    Mutation(
        "a row changed by hand",
        lambda run: run.change("billing", Invoice, run.confirmed, amount_minor=1),
        ROWS,
        "billing.invoices {confirmed}: amount_minor is 1",
    ),
    Mutation(
        "a row that is gone",
        lambda run: run.drop("orders", Order, run.confirmed),
        ROWS,
        "orders.orders {confirmed}: the row is missing",
    ),
    Mutation(
        "a row that no fact made",
        lambda run: run.plant("orders", Order(order_id="x", status=Status.PLACED)),
        ROWS,
        "no fact says that this row exists",
    ),
    Mutation(
        "a row that is none",
        lambda run: run.change("billing", Invoice, run.confirmed, status="x"),
        ROWS,
        "the row is no Invoice",
    ),
    Mutation(
        "a story of another end",
        lambda run: run.change("timeline", Story, run.confirmed, reason="x"),
        VIEWS,
        "timeline.stories {confirmed}: reason is 'x'",
    ),
    Mutation(
        "a shelf that counts otherwise",
        lambda run: run.add("timeline", Shelf, run.item, available=1),
        VIEWS,
        "timeline.shelves {item}: available is",
    ),
    Mutation(
        "an entry that is gone",
        lambda run: run.drop("timeline", Entry, entry(run)),
        ENTRIES,
        "was heard, but no entry tells of it",
    ),
    Mutation(
        "an entry of no fact",
        lambda run: run.plant("timeline", Entry(id="billing/0/999999", order_id=run.confirmed)),
        ENTRIES,
        "the log holds no such fact",
    ),
    Mutation(
        "an entry with an id that is none",
        lambda run: run.plant("timeline", Entry(id="x", order_id=run.confirmed)),
        ENTRIES,
        "entry x of order",
    ),
    Mutation(
        "an entry of another order",
        told(order_id="x"),
        ENTRIES,
        "the fact is about {confirmed}",
    ),
    Mutation(
        "an entry of another name",
        told(fact="PaymentVoided"),
        ENTRIES,
        "it says PaymentVoided, the fact is PaymentCaptured",
    ),
    Mutation(
        "an entry of another cause",
        told(cause="orders/0/1"),
        ENTRIES,
        "it says that its cause is orders/0/1",
    ),
    Mutation("an entry of another speaker", told(speaker="orders"), ENTRIES, "its speaker, time, cause"),
    Mutation("an entry of another time", told(at=LONG_AGO), ENTRIES, "its speaker, time, cause"),
    Mutation("an entry of another correlation", told(correlation="x"), ENTRIES, "its speaker, time, cause"),
    Mutation("an entry of another detail", told(detail=Raw(b'{"reference":"x"}')), ENTRIES, "its speaker, time, cause"),
    Mutation("an entry with a number too large", told(detail=Raw(b"9" * 30)), ENTRIES, "its speaker, time, cause"),
    Mutation(
        "an entry of another fact as its cause",
        lambda run: told(cause=envelope.read(run.fact("ShipmentPlanned").headers).id)(run),
        ENTRIES,
        "its speaker, time, cause",
    ),
    Mutation(
        "an entry of a fact that is parked",
        lambda run: run.park("timeline", run.confirmed, run.fact("PaymentCaptured")),
        ENTRIES,
        "the timeline has not handled the fact",
    ),
    Mutation(
        "an entry that is none",
        told(ordinal="x"),
        ENTRIES,
        "the row is no Entry",
    ),
    Mutation(
        "an entry before its cause",
        told(ordinal=0),
        ENTRIES,
        "its ordinal 0 is not above",
    ),
]
