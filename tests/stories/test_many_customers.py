"""Customers who want the same thing, and shops that have nothing to do with each other."""

import asyncio
from collections import Counter

from streams.kit.testing import Shop
from tests.stories.conftest import NewShop
from tests.stories.records import BOOKED, HELD, Records


async def test_the_last_ten_pieces_go_to_exactly_ten_of_fifty_buyers(shop: Shop, records: Records) -> None:
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 10)
    orders = await asyncio.gather(*(shop.place(sku="lamp", customer=f"buyer-{number}") for number in range(50)))
    endings = [await shop.settled(order) for order in orders]
    assert Counter((each.status, each.reason) for each in endings) == {
        ("confirmed", ""): 10,
        ("cancelled", "OUT_OF_STOCK"): 40,
    }
    assert await shop.stock("lamp") == (0, 0, 10)
    assert sorted((await records.captures(orders)).values()) == [1] * 10


async def test_the_last_piece_goes_to_exactly_one_of_two_hundred_buyers(new_shop: NewShop, records: Records) -> None:
    shop = new_shop(patience_seconds=60.0)
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 1)
    orders = await asyncio.gather(*(shop.place(sku="lamp", customer=f"buyer-{number}") for number in range(200)))
    endings = await asyncio.gather(*map(shop.settled, orders))
    assert Counter((each.status, each.reason) for each in endings) == {
        ("confirmed", ""): 1,
        ("cancelled", "OUT_OF_STOCK"): 199,
    }
    assert await shop.stock("lamp") == (0, 0, 1)
    winner = next(order for order, ending in zip(orders, endings, strict=True) if ending.status == "confirmed")
    assert await records.captures(orders) == {winner.id: 1}
    assert [order for order in orders if await records.parcel(order) in BOOKED] == [winner]
    assert [order for order in orders if await records.payment(order) in HELD] == [winner]


async def test_shops_with_the_same_sku_sell_their_own_stock_at_their_own_price(new_shop: NewShop) -> None:
    shops = [new_shop() for _ in range(3)]
    prices, pieces = (500, 700, 900), (1, 5, 9)

    async def sell(shop: Shop, price: int, received: int) -> tuple[str, int]:
        await shop.price("lamp", price)
        await shop.receive("lamp", received)
        shown = await shop.settled(await shop.place(sku="lamp", quantity=5))
        return shown.status, shown.total_minor

    found = await asyncio.gather(*(map(sell, shops, prices, pieces)))
    assert found == [("cancelled", 5 * 500), ("confirmed", 5 * 700), ("confirmed", 5 * 900)]
    assert [await shop.stock("lamp") for shop in shops] == [(1, 0, 0), (0, 0, 5), (4, 0, 5)]


async def test_an_order_is_shown_to_nobody_but_its_customer(new_shop: NewShop) -> None:
    shop, other = new_shop(), new_shop()
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 1)
    order = await shop.place(sku="lamp", customer="ada")
    assert await shop.status(order) == "confirmed"
    path = f"/v1/orders/{order.id}"
    answers = [
        await shop.ask("GET", path, customer="ada"),
        await shop.ask("GET", path, customer="eve"),
        await other.ask("GET", path, customer="ada"),
        await other.ask("POST", f"{path}/cancellation", customer="ada"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 404]


async def test_the_same_idempotency_key_is_another_order_in_another_shop(new_shop: NewShop) -> None:
    shops = [new_shop(), new_shop()]
    for shop in shops:
        await shop.price("lamp", 1999)
        await shop.receive("lamp", 1)
    orders = [await shop.place(sku="lamp", key="first") for shop in shops]
    assert orders[0].id != orders[1].id
    assert [await shop.status(order) for shop, order in zip(shops, orders, strict=True)] == ["confirmed"] * 2
