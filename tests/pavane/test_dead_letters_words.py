"""How operators say which records they mean, and how what they see is said."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from pavane.dead_letters.events import Events
from pavane.dead_letters.items import Item, ItemId
from pavane.dead_letters.listing import Listing
from pavane.dead_letters.selection import Selected, Selection
from pavane.dead_letters.showing import what_discarding_means
from pavane.operators.errors import NotAsked
from pavane.operators.words import age, age_of, aligned, cut, plain
from streams.kit import envelope
from streams.kit.log import Record
from streams.kit.parking import Parked
from tests.pavane.audited import LANGUAGE, Ids, wire

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def selected(number: int = 1, reason: str = "KeyError", behind: int = 0, parked_at: datetime = NOON) -> Selected:
    record = Record("inventory", 0, 7, 0, b"key", b"", ())
    parked = Parked(number, "key", True, record, envelope.of_request("inventory", 0, 7, ()), reason, "m", 1, None)
    own = ItemId("billing", 0, number)
    return Selected(Item(own, parked, parked_at, own, behind), "StockReserved")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7_200), ("3d", 259_200)])
def test_an_age_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert age_of(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "1.5h", "10 m", "9" * 20 + "d"])
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(NotAsked):
        age_of(text)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")]
)
def test_an_age_is_told_in_the_largest_unit_that_says_something(seconds: int, told: str) -> None:
    assert age(NOON - timedelta(seconds=seconds), NOON) == told
    assert age(NOON + timedelta(seconds=seconds), NOON) == "0s", "clocks differ"


def test_an_id_is_read_as_it_is_written() -> None:
    assert ItemId.parse(str(ItemId("billing", 3, 12))) == ItemId("billing", 3, 12)


@pytest.mark.parametrize("text", ["billing", "billing/1", "billing/x/1", "billing/0/-1", "a/b/0/1", "billing/0/²"])
def test_anything_else_is_no_id(text: str) -> None:
    with pytest.raises(NotAsked, match="is no id"):
        ItemId.parse(text)


def test_text_of_strangers_stays_on_its_line_and_moves_no_terminal() -> None:
    assert plain("a\x1b[2J\nb\tc\u202e") == "a�[2J b c�"
    assert cut("one\n  two  three", 9) == "one two …"


@pytest.mark.parametrize(
    ("selection", "passes"),
    [
        (Selection(), True),
        (Selection(reason="keyerror", fact="stockreserved", key="key"), True),
        (Selection(reason="Key"), False),
        (Selection(fact="StockReleased"), False),
        (Selection(key="other"), False),
        (Selection(older=HOUR), True),
        (Selection(older=HOUR + timedelta(seconds=1)), False),
        (Selection(newer=HOUR), True),
        (Selection(newer=HOUR - timedelta(seconds=1)), False),
    ],
)
def test_every_filter_must_be_met(selection: Selection, passes: bool) -> None:
    one = selected(parked_at=NOON - HOUR)
    assert selection.lets_pass(one.item, one.event, NOON) is passes


def test_a_long_listing_is_cut_and_still_counted() -> None:
    listing = Listing(2, NOON)
    for number in range(1, 6):
        listing.add(selected(number, "KeyError" if number < 4 else "Refused", behind=number))
    lines = listing.lines()
    assert [line.split()[0] for line in lines[1:4]] == ["billing/0/1", "billing/0/2", "..."]
    assert lines[-3:] == [
        "5 records parked, 15 waiting behind them",
        "        3  billing: KeyError",
        "        2  billing: Refused",
    ]


def test_an_empty_listing_says_so() -> None:
    assert Listing(2, NOON).lines() == ["No record is parked."]


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    assert aligned(("a", "b", "c"), [("long", "x", "the last one is as long as it is")]) == [
        "a     b  c",
        "long  x  the last one is as long as it is",
    ]


async def test_a_request_is_named_by_the_registry_whatever_its_headers_say() -> None:
    name = "CancelOrder\x1b[2J"
    cancel = wire("orders.requests", "CancelOrder", {"tenant": "shop", "order_id": str(UUID(int=1)), "asked_by": "ada"})
    asked = Record("orders.requests", 0, 5, 0, b"key", cancel, [("ce_type", name.encode())])
    said = replace(asked, topic="orders")

    events = Events(LANGUAGE, Ids())

    assert await events.name(asked) == "CancelOrder"
    assert await events.name(said) == name


def test_what_discarding_means_is_told_in_plain_text() -> None:
    one = selected()

    assert "\x1b" not in "".join(what_discarding_means(one.item, "StockReserved\x1b[2J"))
