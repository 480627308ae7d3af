"""Many want the last piece of an item, while other orders flow and inventory dies in the middle of a batch."""

import asyncio
import random
from collections import Counter
from uuid import uuid4

import pytest

from streams.kit.shop import Order, Shop
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.stories.records import BOOKED, HELD, Records

PATIENCE_SECONDS = 90.0
BUYERS = 200
#: Before the buyers come, of those who order something else.
MOST_BEFORE = 300
POINTS = ("after-fold", "before-commit", "after-commit", "after-said")
LAST_TIME = 5
pytestmark = [LONG, pytest.mark.timeout(300)]


@pytest.mark.parametrize("seed", seeds())
async def test_the_last_piece_goes_to_exactly_one_of_two_hundred_buyers_though_inventory_dies_meanwhile(
    ground: Ground, seed: int
) -> None:
    luck = random.Random(seed)
    shop = Shop(ground.http, ground.platform.issuer, f"shop-{uuid4().hex[:10]}", PATIENCE_SECONDS)
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 1)
    async with under_load(ground, seed) as load:
        await load.accepted(luck.randint(1, MOST_BEFORE))
        point = f"{luck.choice(POINTS)}:{luck.randint(1, LAST_TIME)}"
        doomed = await ground.replace("inventory", point)
        orders = await asyncio.gather(*(shop.place(sku="lamp", customer=f"buyer-{n}") for n in range(BUYERS)))
        await ground.died(doomed, point)
        before = await ground.epochs("inventory")
        ground.launch("inventory")
        await ground.until_taken_over("inventory", before)
        endings = await asyncio.gather(*map(shop.settled, orders))
    assert Counter((each.status, each.reason) for each in endings) == {
        ("confirmed", ""): 1,
        ("cancelled", "OUT_OF_STOCK"): BUYERS - 1,
    }
    assert await shop.stock("lamp") == (0, 0, 1)
    [winner] = [order for order, ending in zip(orders, endings, strict=True) if ending.status == "confirmed"]
    await assert_alone_has_anything(Records(ground.stack.addresses.postgres), winner, orders)


async def assert_alone_has_anything(records: Records, winner: Order, orders: list[Order]) -> None:
    """Of all these orders, money is taken and a parcel booked for this one, once."""
    assert await records.captures(orders) == {winner.id: 1}
    assert [order for order in orders if await records.parcel(order) in BOOKED] == [winner]
    assert [order for order in orders if await records.payment(order) in HELD] == [winner]
