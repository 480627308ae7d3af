"""Inventory: every row of its canvas, and the arithmetic of stock under any story."""

from typing import Any

import pytest
from hypothesis import given as any_of
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.inventory.events import (
    AdjustStock,
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
)
from streams.inventory.model import Kind, Movement, Status, Stock
from streams.inventory.service import MOST_PIECES, inventory
from streams.kit.events import Event, Heard
from streams.kit.testing import Given, Story

ORDER = "0190a000-0000-7000-8000-000000000001"
given = Given(inventory)


def received(sku: str, quantity: int, request_id: str = "r1", tenant: str = "shop") -> StockReceived:
    return StockReceived(tenant=tenant, sku=sku, quantity=quantity, request_id=request_id)


def placed(*lines: tuple[str, int], order_id: str = ORDER) -> OrderPlaced:
    return OrderPlaced(
        tenant="shop", order_id=order_id, lines=tuple(OrderedLine(sku=sku, quantity=n) for sku, n in lines)
    )


def lines(*of: tuple[str, int]) -> tuple[StockLine, ...]:
    return tuple(StockLine(sku=sku, quantity=quantity) for sku, quantity in of)


RESERVED = StockReserved(tenant="shop", order_id=ORDER, lines=lines(("lamp", 2), ("bulb", 1)))
REJECTED = StockRejected(tenant="shop", order_id=ORDER, missing=(Shortage(sku="lamp", requested=2, available=1),))
DISPATCHED = StockDispatched(tenant="shop", order_id=ORDER, lines=RESERVED.lines)
RELEASED = StockReleased(tenant="shop", order_id=ORDER, lines=RESERVED.lines)
PLACED = placed(("lamp", 2), ("bulb", 1))
CONFIRMED = OrderConfirmed(order_id=ORDER)
CANCELLED = OrderCancelled(order_id=ORDER)
SHELF = (received("lamp", 5), received("bulb", 1))


def stock(story: Story, sku: str = "lamp") -> dict[str, int]:
    row = story.row(Stock, f"shop/{sku}")
    return {name: getattr(row, name) for name in ("on_hand", "reserved", "dispatched")}


# -- orders ----------------------------------------------------------------------------------------------------------


def test_what_is_there_is_set_aside() -> None:
    story = given(*SHELF).when(PLACED).then(RESERVED)
    assert stock(story, "lamp") == {"on_hand": 3, "reserved": 2, "dispatched": 0}
    assert stock(story, "bulb") == {"on_hand": 0, "reserved": 1, "dispatched": 0}


def test_if_anything_is_missing_nothing_is_set_aside() -> None:
    story = given(received("lamp", 5)).when(PLACED)
    story.then(
        StockRejected(tenant="shop", order_id=ORDER, missing=(Shortage(sku="bulb", requested=1, available=0),))
    )
    assert stock(story, "lamp") == {"on_hand": 5, "reserved": 0, "dispatched": 0}


def test_lines_of_one_item_are_counted_together() -> None:
    twice = placed(("lamp", 3), ("bulb", 1), ("lamp", 2))
    given(*SHELF).when(twice).then(
        StockReserved(tenant="shop", order_id=ORDER, lines=lines(("lamp", 5), ("bulb", 1)))
    )
    given(*SHELF).when(placed(("lamp", 3), ("lamp", 3))).then(
        StockRejected(tenant="shop", order_id=ORDER, missing=(Shortage(sku="lamp", requested=6, available=5),))
    )


def test_two_orders_cannot_have_the_last_piece() -> None:
    other = "0190a000-0000-7000-8000-000000000002"
    story = given(received("lamp", 1)).when(placed(("lamp", 1)))
    story.then(StockReserved(tenant="shop", order_id=ORDER, lines=lines(("lamp", 1))))
    story.when(placed(("lamp", 1), order_id=other)).then(
        StockRejected(tenant="shop", order_id=other, missing=(Shortage(sku="lamp", requested=1, available=0),))
    )


def test_another_shops_goods_are_not_there() -> None:
    given(received("lamp", 5, tenant="other")).when(placed(("lamp", 1))).then(
        StockRejected(tenant="shop", order_id=ORDER, missing=(Shortage(sku="lamp", requested=1, available=0),))
    )


def test_a_confirmed_order_leaves_the_warehouse() -> None:
    story = given(*SHELF, RESERVED).when(CONFIRMED).then(DISPATCHED).remembers(status=Status.DISPATCHED)
    assert stock(story) == {"on_hand": 3, "reserved": 0, "dispatched": 2}


def test_a_cancelled_order_gives_its_goods_back() -> None:
    story = given(*SHELF, RESERVED).when(CANCELLED).then(RELEASED).remembers(status=Status.RELEASED)
    assert stock(story) == {"on_hand": 5, "reserved": 0, "dispatched": 0}


def test_released_goods_can_be_set_aside_for_the_next_order() -> None:
    other = "0190a000-0000-7000-8000-000000000002"
    story = given(received("lamp", 1)).when(placed(("lamp", 1))).when(CANCELLED)
    story.when(placed(("lamp", 1), order_id=other))
    story.then(StockReserved(tenant="shop", order_id=other, lines=lines(("lamp", 1))))


@pytest.mark.parametrize("ended", [(REJECTED,), (RESERVED, DISPATCHED), (RESERVED, RELEASED)])
@pytest.mark.parametrize("late", [PLACED, CONFIRMED, CANCELLED])
def test_nothing_changes_an_order_that_has_ended(ended: tuple[Event, ...], late: Heard) -> None:
    given(*SHELF, *ended).when(late).then()


def test_an_order_is_reserved_once() -> None:
    given(*SHELF, RESERVED).when(PLACED).then()


@pytest.mark.parametrize("early", [CONFIRMED, CANCELLED])
def test_nothing_is_moved_for_an_order_never_placed(early: Heard) -> None:
    given(*SHELF).when(early).then()


# -- warehouse -------------------------------------------------------------------------------------------------------

RECEIVE = ReceiveStock(tenant="shop", sku="lamp", quantity=5, request_id="r1")
ADJUST = AdjustStock(tenant="shop", sku="lamp", quantity=-2, reason="broken", request_id="r2")
ADJUSTED = StockAdjusted(tenant="shop", sku="lamp", quantity=-2, reason="broken", request_id="r2")


def test_received_goods_are_on_hand_and_in_the_ledger() -> None:
    story = given().when(RECEIVE).then(received("lamp", 5))
    assert stock(story) == {"on_hand": 5, "reserved": 0, "dispatched": 0}
    assert story.row(Movement, "shop/lamp/r1") == Movement(
        movement="shop/lamp/r1", item="shop/lamp", kind=Kind.RECEIVED, quantity=5
    )


def test_a_receipt_reported_again_counts_once_even_much_later() -> None:
    story = given(received("lamp", 5, "r1"), received("lamp", 3, "r2")).when(RECEIVE).then()
    assert stock(story)["on_hand"] == 8


def test_one_request_id_may_name_receipts_of_several_items() -> None:
    given(received("lamp", 5)).when(replace(RECEIVE, sku="bulb")).then(received("bulb", 5))


def test_a_correction_changes_what_is_on_hand_once() -> None:
    story = given(received("lamp", 5)).when(ADJUST).then(ADJUSTED)
    assert stock(story)["on_hand"] == 3
    assert story.row(Movement, "shop/lamp/r2").reason == "broken"
    story.when(ADJUST).then()
    assert stock(story)["on_hand"] == 3


def test_a_request_id_used_for_a_receipt_corrects_nothing() -> None:
    given(received("lamp", 5, "r2")).when(ADJUST).then()


def test_a_request_id_used_for_a_correction_receives_nothing() -> None:
    given(received("lamp", 5), ADJUSTED).when(replace(RECEIVE, request_id=ADJUSTED.request_id)).then()


@pytest.mark.parametrize("quantity", [1, 1_000_000_000_000])
def test_a_receipt_is_of_one_piece_to_a_million_million(quantity: int) -> None:
    given().when(replace(RECEIVE, quantity=quantity)).then(received("lamp", quantity))
    given().when(replace(RECEIVE, quantity=1_000_000_000_001)).refused("1 to 1,000,000,000,000 pieces")


@pytest.mark.parametrize("quantity", [-5, 3, 1_000_000_000_000])
def test_a_correction_leaves_nothing_or_more(quantity: int) -> None:
    story = given(received("lamp", 5)).when(replace(ADJUST, quantity=quantity))
    story.then(replace(ADJUSTED, quantity=quantity))
    assert stock(story)["on_hand"] == 5 + quantity
    given(received("lamp", 5)).when(replace(ADJUST, quantity=1_000_000_000_001)).refused("a correction by")


def test_what_is_set_aside_cannot_be_corrected_away() -> None:
    all_reserved = StockReserved(tenant="shop", order_id=ORDER, lines=lines(("lamp", 5)))
    given(received("lamp", 5), all_reserved).when(ADJUST).refused("less than nothing of 0 on hand")


def test_a_refused_correction_may_be_asked_for_again_later() -> None:
    story = given().when(ADJUST)
    story.refused("on hand").heard(received("lamp", 5)).when(ADJUST).then(ADJUSTED)


def test_a_correction_by_nothing_says_nothing() -> None:
    given(received("lamp", 5)).when(replace(ADJUST, quantity=0)).then()


@pytest.mark.parametrize(
    "wrong",
    [
        replace(RECEIVE, quantity=0),
        replace(RECEIVE, quantity=-1),
        replace(RECEIVE, quantity=MOST_PIECES + 1),
        replace(RECEIVE, tenant="a/b"),
        replace(RECEIVE, sku="\x00"),
        replace(RECEIVE, request_id="a/b"),
        replace(RECEIVE, request_id=""),
        replace(ADJUST, quantity=MOST_PIECES + 1),
        replace(ADJUST, quantity=-6),
        replace(ADJUST, tenant=""),
        replace(ADJUST, reason="\x00"),
    ],
)
def test_a_wrong_report_is_refused(wrong: Heard) -> None:
    given(received("lamp", 5, "r0")).when(wrong).refused()


# -- arithmetic ------------------------------------------------------------------------------------------------------

SKUS = st.sampled_from(["lamp", "bulb"])
ORDERS = st.sampled_from([f"0190a000-0000-7000-8000-00000000000{n}" for n in range(4)])
REQUESTS = st.sampled_from(["r1", "r2", "r3"])
EVENTS = st.one_of(
    st.builds(ReceiveStock, tenant=st.just("shop"), sku=SKUS, quantity=st.integers(-1, 9), request_id=REQUESTS),
    st.builds(
        AdjustStock,
        tenant=st.just("shop"),
        sku=SKUS,
        quantity=st.integers(-6, 6),
        reason=st.just("count"),
        request_id=REQUESTS,
    ),
    st.builds(
        OrderPlaced,
        tenant=st.just("shop"),
        order_id=ORDERS,
        lines=st.lists(st.builds(OrderedLine, sku=SKUS, quantity=st.integers(1, 4)), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(OrderConfirmed, order_id=ORDERS),
    st.builds(OrderCancelled, order_id=ORDERS),
)


@settings(max_examples=150, deadline=None)
@any_of(st.lists(EVENTS, max_size=40))
def test_under_any_story_nothing_is_promised_twice_and_the_books_balance(events: list[Any]) -> None:
    story = given()
    for event in events:
        story.when(event)
        for row in story.rows(Stock).values():
            assert row.on_hand >= 0
            assert row.reserved >= 0
            assert row.received + row.adjusted == row.on_hand + row.reserved + row.dispatched


@settings(max_examples=100, deadline=None)
@any_of(st.lists(EVENTS, max_size=40), st.randoms(use_true_random=False))
def test_stock_is_the_same_in_whatever_order_its_facts_are_folded(events: list[Any], random: Any) -> None:
    story = given()
    facts = [fact for event in events for fact in story.when(event).said]
    random.shuffle(facts)
    assert given(*facts).rows(Stock) == story.rows(Stock)
