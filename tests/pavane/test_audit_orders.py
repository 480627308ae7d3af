"""The audit names every order that did not begin or end as it must, and every request without an answer."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from streams.kit.events import milliseconds
from streams.orders.service import DEADLINE_SECONDS
from tests.pavane.audited import NOW, PARTITIONS, Look, Shop, said_by, wire


@pytest.fixture
async def shop() -> Shop:
    shop = Shop()
    shop.stock("lamp", 100)
    await shop.settle()
    return shop


async def test_a_second_final_fact_is_named(shop: Shop):
    order = shop.place("lamp")
    await shop.settle()
    look = shop.look()
    said_by(look, "orders", order, "OrderCancelled", order_id=order, reason="CUSTOMER")

    assert only(look, "orders-end").startswith(f"order {order} ended more than once: OrderPlaced")


async def test_an_order_placed_twice_is_named(shop: Shop):
    order = shop.place("lamp")
    await shop.settle()
    look = shop.look()
    said_by(look, "orders", order, "OrderRejected", order_id=order, customer="c", reason="INVALID", detail="")

    assert f"order {order} was begun more than once" in only(look, "orders-end")


async def test_an_end_without_a_beginning_is_named(shop: Shop):
    look = shop.look()
    said_by(look, "orders", "nobody", "OrderConfirmed", order_id="nobody")

    assert "order nobody ended without having begun" in only(look, "orders-end")


async def test_an_open_order_past_its_deadline_is_named(shop: Shop):
    order = shop.place("lamp")
    await shop.settle("orders")
    look = shop.look()
    look.now = NOW + timedelta(seconds=DEADLINE_SECONDS + 90)

    assert f"order {order} is open 90 s after it was due to end" in only(look, "orders-end")


async def test_an_order_that_was_placed_after_its_deadline_has_as_long_from_then_on(shop: Shop):
    order = shop.place("lamp")
    await shop.settle("orders")
    look = shop.look()
    placed_at = NOW + timedelta(seconds=DEADLINE_SECONDS + 600)
    [placed] = look.records("orders", order)
    look.replace(placed, replace(placed, timestamp=milliseconds(placed_at)))

    look.now = placed_at + timedelta(seconds=50)
    verdict = look.verdicts()["orders-end"]
    assert (verdict.clean, verdict.unsettled) == (True, 1)

    look.now = placed_at + timedelta(seconds=70)
    assert f"order {order} is open 70 s after it was due to end" in only(look, "orders-end")


async def test_a_request_that_was_heard_and_never_answered_is_named(shop: Shop):
    order = shop.place("lamp")
    await shop.settle()
    look = shop.look()
    for record in look.records("orders", order):
        look.replace(record)

    assert f"PlaceOrder about {order} was heard, but no fact" in only(look, "requests-answered")


async def test_a_record_that_is_no_event_must_be_a_dead_letter(shop: Shop):
    shop.append("orders.requests", "garbage", b"\x01")
    await shop.settle()
    look = shop.look()
    assert look.broken() == {}
    for partition in range(PARTITIONS):
        look.log.pop(("orders.dead-letters", partition), None)
    look.seen["orders"].unsaid.clear()

    assert "a record that is no event about garbage was heard" in only(look, "requests-answered")


async def test_dead_letters_are_listed_with_their_reason_and_break_nothing(shop: Shop):
    shop.cancel("11111111-1111-4111-8111-111111111111")
    await shop.settle()

    verdicts = shop.look().verdicts()

    assert all(verdict.clean for verdict in verdicts.values())
    assert verdicts["dead-letters"].checked == 1
    [note] = verdicts["dead-letters"].notes
    assert "about 11111111-1111-4111-8111-111111111111: Refused: no such order was placed" in note


async def test_an_event_that_orders_does_not_read_needs_no_answer(shop: Shop):
    await shop.settle()
    received = wire(
        "inventory.requests", "ReceiveStock", {"tenant": "shop", "sku": "x", "quantity": 1, "request_id": "1"}
    )
    shop.append("orders.requests", "shop/x", received)
    await shop.settle()

    assert shop.look().broken() == {}


def only(look: Look, name: str) -> str:
    """The first violation of that invariant."""
    return look.broken()[name][0]
