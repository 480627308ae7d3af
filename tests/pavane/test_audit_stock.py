"""The audit names every item of which pieces were lost, invented or promised twice."""

import pytest

from pavane.audit.stock import balances
from streams.inventory.model import Kind, Movement, Stock
from tests.pavane.audited import Look, Shop

NAME = "stock-balances"


@pytest.fixture
async def look() -> Look:
    shop = Shop()
    shop.stock("lamp", 100)
    shop.stock("book", 50)
    await shop.settle()
    shop.place("lamp", 3)
    await shop.settle()
    shop.place("lamp", 2)
    await shop.settle("orders", "inventory")
    return shop.look()


def stock(look: Look) -> Stock:
    row = look.seen["inventory"].rows[Stock]["shop/lamp"]
    assert isinstance(row, Stock)
    return row


def test_stock_that_is_dispatched_and_reserved_balances(look: Look):
    assert stock(look) == Stock(item="shop/lamp", on_hand=95, reserved=2, dispatched=3, received=100)
    assert look.broken() == {}
    assert look.verdicts()[NAME].checked == 2


def test_stock_below_zero_is_named(look: Look):
    look.seen["inventory"].put(stock(look), on_hand=-1, received=4)

    assert "shop/lamp: on_hand is -1, below zero" in words(look)


def test_pieces_that_came_from_nowhere_are_named(look: Look):
    look.seen["inventory"].put(stock(look), on_hand=96)

    assert "received 100 + adjusted 0 = 100, but on hand 96 + reserved 2 + dispatched 3 = 101" in words(look)
    assert "the facts of inventory make it" in words(look)


def test_a_reservation_that_is_not_in_the_stock_is_named(look: Look):
    look.seen["inventory"].put(stock(look), on_hand=97, reserved=0)

    assert "shop/lamp: reserved is 0, its reservations sum up to 2" in words(look)


def test_where_rows_are_made_of_facts_alone_stock_is_still_the_sum_of_its_reservations():
    row = Stock(item="shop/lamp", on_hand=8, reserved=2, received=10)
    received = Movement(movement="shop/lamp/r-1", item="shop/lamp", kind=Kind.RECEIVED, quantity=10)

    assert balances({"shop/lamp": row}, None, [], [received]).violations == (
        "shop/lamp: reserved is 2, its reservations sum up to 0",
    )


def test_a_receipt_that_is_not_in_the_ledger_is_named(look: Look):
    look.seen["inventory"].rows[Movement].pop("shop/lamp/r-lamp")

    assert "shop/lamp: received is 100, its movements sum up to 0" in words(look)


def test_a_missing_stock_row_is_named(look: Look):
    look.seen["inventory"].rows[Stock].pop("shop/book")

    assert "shop/book: the stock row is missing" in words(look)


def words(look: Look) -> str:
    return "\n".join(look.broken()[NAME])
