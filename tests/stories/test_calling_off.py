"""Orders that are called off, by their customer or by their deadline, at any moment."""

import asyncio
import random
import time

from pavane.platform import Platform
from streams.kit.shop import Order
from streams.kit.testing import Shop
from tests.stories.records import BOOKED, HELD, Records
from tests.stories.silence import silent

SEED = 20_26


async def test_a_cancellation_before_the_confirmation_undoes_everything(
    shop: Shop, platform: Platform, records: Records
) -> None:
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 5)
    async with silent(platform, "shipping"):
        order = await shop.place(sku="lamp", quantity=2)
        await shop.told(order, "PaymentAuthorized")
        assert (await records.payment(order), await shop.stock("lamp")) == ("authorized", (3, 2, 0))
        await shop.cancel(order)
        await shop.told(order, "OrderCancelled")
    shown = await shop.settled(order)
    assert (shown.status, shown.reason) == ("cancelled", "CUSTOMER")
    assert {"StockReleased", "PaymentVoided", "ShipmentCancelled"} <= set(shown.facts)
    assert await shop.stock("lamp") == (5, 0, 0)
    assert await records.payment(order) == "voided"
    assert await records.parcel(order) in {"closed", "cancelled"}


async def test_a_cancellation_after_the_confirmation_is_refused(shop: Shop, records: Records) -> None:
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 5)
    order = await shop.place(sku="lamp")
    assert await shop.status(order) == "confirmed"
    await shop.cancel(order)
    shown = await shop.told(order, "CancellationRefused")
    assert shown.detail("CancellationRefused")["reason"] == "ALREADY_CONFIRMED"
    assert (shown.status, await records.payment(order)) == ("confirmed", "captured")
    assert await shop.stock("lamp") == (4, 0, 1)


async def test_a_cancellation_at_any_moment_leaves_either_everything_or_nothing(shop: Shop, records: Records) -> None:
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 100)
    begun = time.monotonic()
    await shop.settled(await shop.place(sku="lamp", quantity=5))
    whole_saga_seconds = time.monotonic() - begun
    moments = random.Random(SEED)

    async def change_of_mind(after_seconds: float) -> Order:
        order = await shop.place(sku="lamp", quantity=2)
        # The moment is what the story is about, so here time is passed and not waited for.
        await asyncio.sleep(after_seconds)
        await shop.cancel(order)
        return order

    chosen = [moments.uniform(0, 1.5 * whole_saga_seconds) for _ in range(10)]
    orders = await asyncio.gather(*map(change_of_mind, chosen))
    endings = [await shop.settled(order) for order in orders]
    for order, ending in zip(orders, endings, strict=True):
        payment, parcel = await records.payment(order), await records.parcel(order)
        if ending.status == "confirmed":
            assert (payment, parcel) == ("captured", "booked"), ending.facts
            assert "CancellationRefused" in (await shop.told(order, "CancellationRefused")).facts
        else:
            assert (ending.status, ending.reason) == ("cancelled", "CUSTOMER")
            assert payment not in HELD, ending.facts
            assert parcel not in BOOKED, ending.facts
    sold = 5 + 2 * sum(ending.status == "confirmed" for ending in endings)
    assert await shop.stock("lamp") == (100 - sold, 0, sold)


async def test_an_order_that_nobody_answers_is_called_off_at_its_deadline(
    shop: Shop, platform: Platform, records: Records
) -> None:
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 5)
    async with silent(platform, "billing"):
        order = await shop.place(sku="lamp", quantity=2)
        await shop.told(order, "StockReserved")
        await records.let_the_deadline_pass(order)
        shown = await shop.told(order, "OrderCancelled")
        assert (shown.status, shown.reason) == ("cancelled", "DEADLINE")
        assert "InvoiceOpened" not in shown.facts
    shown = await shop.settled(order)
    assert {"InvoiceOpened", "StockReleased", "ShipmentCancelled"} <= set(shown.facts)
    assert await shop.stock("lamp") == (5, 0, 0)
    assert await records.payment(order) not in HELD
    assert await records.parcel(order) not in BOOKED
