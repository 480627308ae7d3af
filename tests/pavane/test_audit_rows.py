"""The audit names every row that is not the fold of the facts, and every story that tells something else."""

from typing import Any

import msgspec
import pytest

from pavane.audit.stories import digest_of
from streams.billing.model import Invoice
from streams.orders.model import Order, Price, Status
from streams.timeline.model import Entry, Shelf, Story
from streams.timeline.model import Status as StoryStatus
from tests.pavane.audited import NOW, Look, Shop, said_by

ROWS, VIEWS, ENTRIES = "rows-rebuilt", "views-rebuilt", "entries-told"


class Case:
    """A shop at rest with one confirmed order."""

    def __init__(self, look: Look, order: str) -> None:
        self.look = look
        self.order = order

    def words(self, name: str) -> str:
        return "\n".join(self.look.broken().get(name, ()))

    def entry(self, fact: str) -> Entry:
        [found] = [
            e for e in self.look.seen["timeline"].rows[Entry].values() if isinstance(e, Entry) and e.fact == fact
        ]
        return found


@pytest.fixture
async def case() -> Case:
    shop = Shop()
    shop.stock("lamp", 100)
    await shop.settle()
    order = shop.place("lamp")
    await shop.settle()
    return Case(shop.look(), order)


def test_a_changed_row_is_named_with_what_it_should_be(case: Case):
    seen = case.look.seen["billing"]
    seen.put(seen.rows[Invoice][case.order], amount_minor=1)

    assert f"billing.invoices {case.order}: amount_minor is 1, the facts make it 1000" in case.words(ROWS)


def test_a_missing_row_is_named(case: Case):
    case.look.seen["orders"].rows[Price].pop("shop/lamp")

    assert "orders.prices shop/lamp: the row is missing" in case.words(ROWS)


def test_a_row_that_no_fact_made_is_named(case: Case):
    case.look.seen["orders"].rows[Order]["stray"] = Order(order_id="stray", status=Status.PLACED)

    assert "orders.orders stray: no fact says that this row exists" in case.words(ROWS)


def test_a_row_that_cannot_be_read_is_named(case: Case):
    seen = case.look.seen["billing"]
    seen.put(seen.rows[Invoice][case.order], status="nonsense")

    assert f"billing.invoices {case.order}: the row is no Invoice" in case.words(ROWS)


def test_a_fact_beyond_the_snapshot_is_not_held_against_the_rows(case: Case):
    said_by(case.look, "billing", case.order, "InvoiceCancelled", order_id=case.order)

    assert case.words(ROWS) == ""


def test_a_story_that_tells_another_end_is_named(case: Case):
    seen = case.look.seen["timeline"]
    seen.put(seen.rows[Story][case.order], status=StoryStatus.CANCELLED)

    assert f"timeline.stories {case.order}: status is" in case.words(VIEWS)


def test_a_shelf_that_counts_otherwise_is_named(case: Case):
    seen = case.look.seen["timeline"]
    seen.put(seen.rows[Shelf]["shop/lamp"], available=7)

    assert "timeline.shelves shop/lamp: available is 7, the facts make it 99" in case.words(VIEWS)


def test_a_fact_that_no_entry_tells_of_is_named(case: Case):
    entry = case.entry("PaymentCaptured")
    case.look.seen["timeline"].rows[Entry].pop(entry.id)

    assert f"{entry.id} (PaymentCaptured about {case.order}) was heard, but no entry tells of it" in case.words(ENTRIES)


def test_an_entry_of_a_fact_that_does_not_exist_is_named(case: Case):
    entry = case.entry("PaymentCaptured")
    stray = f"billing/{entry.id.split('/')[1]}/999"
    case.look.seen["timeline"].rows[Entry][stray] = Entry(id=stray, order_id=case.order)

    assert f"entry {stray} of order {case.order}: the log holds no such fact" in case.words(ENTRIES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order_id": "other"}, "the fact is about"),
        ({"fact": "PaymentVoided"}, "it says PaymentVoided, the fact is PaymentCaptured"),
        ({"cause": "orders/0/1"}, "it says that its cause is orders/0/1"),
        ({"detail": msgspec.Raw(b"{}")}, "its speaker, time, cause, correlation or detail is not what the fact"),
        ({"ordinal": 0}, "its ordinal 0 is not above"),
    ],
)
def test_an_entry_that_tells_something_else_is_named(case: Case, change: dict[str, Any], said: str):
    entry = case.entry("PaymentCaptured")
    case.look.seen["timeline"].put(entry, **change)

    assert said in case.words(ENTRIES)


def test_an_entry_is_the_same_as_a_database_writes_it():
    """PostgreSQL orders the fields of `jsonb` its own way, and tells times in the zone of the connection."""
    detail = b'{"lines":[{"sku":"lamp","quantity":2}],"deadline":"2026-01-01T12:15:00Z"}'
    entry = Entry(
        id="orders/0/1", order_id="o", ordinal=0, fact="OrderPlaced", speaker="orders", at=NOW, cause="c",
        correlation="x", detail=msgspec.Raw(detail),
    )  # fmt: skip
    document = """{"id":"orders/0/1","order_id":"o","ordinal":7,"fact":"OrderPlaced","speaker":"orders",
        "at":"2026-01-01T14:00:00+02:00","cause":"c","correlation":"x",
        "detail":{"deadline": "2026-01-01T12:15:00Z", "lines": [{"quantity": 2, "sku": "lamp"}]}}"""

    read = msgspec.json.decode(document, type=Entry)

    assert read != entry
    assert digest_of(read) == digest_of(entry)
