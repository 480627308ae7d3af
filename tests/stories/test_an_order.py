"""One order from its customer to its end, on real services: what everybody says, and what is undone."""

import pytest

from streams.kit.shop import order_body
from streams.kit.testing import Shop
from tests.stories.records import Records
from tests.stories.sagas import CONFIRMED


@pytest.fixture
async def shop(shop: Shop) -> Shop:
    """A shop that has five lamps."""
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 5)
    return shop


async def test_an_order_that_nothing_stops_is_confirmed_in_nine_facts(shop: Shop, records: Records) -> None:
    order = await shop.place(sku="lamp", quantity=2)
    assert await shop.story(order) == CONFIRMED
    assert await shop.status(order) == "confirmed"
    assert await shop.stock("lamp") == (3, 0, 2)
    assert (await records.payment(order), await records.parcel(order)) == ("captured", "booked")


async def test_the_gateway_shows_every_fact_once_and_after_its_cause(shop: Shop) -> None:
    shown = await shop.settled(await shop.place(sku="lamp"))
    assert sorted(told.fact for told in shown.story) == sorted(CONFIRMED)
    places = {told.id: place for place, told in enumerate(shown.story)}
    caused = [told for told in shown.story if told.cause in places]
    assert len(caused) == len(CONFIRMED) - 1, "all but OrderPlaced answer a fact of the story"
    assert [told.fact for told in shown.story if told.took_seconds is None] == ["OrderPlaced"]
    assert all(places[told.cause] < places[told.id] for told in caused)


async def test_all_lines_of_an_order_are_sold_at_the_shops_prices(shop: Shop) -> None:
    await shop.price("bulb", 250)
    await shop.receive("bulb", 10)
    shown = await shop.settled(await shop.place(lines=[("lamp", 1), ("bulb", 2), ("bulb", 3)]))
    assert (shown.status, shown.total_minor, shown.currency) == ("confirmed", 1999 + 5 * 250, "EUR")
    assert (await shop.stock("lamp"), await shop.stock("bulb")) == ((4, 0, 1), (5, 0, 5))


async def test_a_free_order_is_confirmed_without_asking_the_provider(shop: Shop, records: Records) -> None:
    await shop.price("lamp", 0)
    order = await shop.place(sku="lamp", method="declined")
    assert await shop.story(order) == CONFIRMED
    assert (await records.payment(order), await records.parcel(order)) == ("unknown", "booked")


async def test_a_declined_payment_gives_the_stock_back(shop: Shop, records: Records) -> None:
    order = await shop.place(sku="lamp", quantity=2, method="declined")
    assert await shop.story(order) == [
        "OrderPlaced",
        "InvoiceOpened",
        "ShipmentPlanned",
        "StockReserved",
        "PaymentDeclined",
        "OrderCancelled",
        "StockReleased",
        "InvoiceCancelled",
        "ShipmentCancelled",
    ]
    assert (await shop.look(order)).reason == "PAYMENT_DECLINED"
    assert await shop.stock("lamp") == (5, 0, 0)
    assert (await records.payment(order), await records.parcel(order)) == ("declined", "closed")


async def test_a_payment_declined_at_capture_calls_the_parcel_off(shop: Shop, records: Records) -> None:
    order = await shop.place(sku="lamp", quantity=2, method="declined-at-capture")
    assert await shop.story(order) == [
        "OrderPlaced",
        "InvoiceOpened",
        "ShipmentPlanned",
        "StockReserved",
        "PaymentAuthorized",
        "ShipmentBooked",
        "PaymentDeclined",
        "OrderCancelled",
        "StockReleased",
        "PaymentVoided",
        "ShipmentCancelled",
    ]
    assert await shop.stock("lamp") == (5, 0, 0)
    assert (await records.payment(order), await records.parcel(order)) == ("voided", "cancelled")


async def test_a_parcel_that_no_carrier_takes_lets_the_money_go(shop: Shop, records: Records) -> None:
    order = await shop.place(sku="lamp", country="XX")
    assert await shop.story(order) == [
        "OrderPlaced",
        "InvoiceOpened",
        "ShipmentPlanned",
        "StockReserved",
        "PaymentAuthorized",
        "ShipmentRejected",
        "OrderCancelled",
        "StockReleased",
        "PaymentVoided",
    ]
    assert (await shop.look(order)).reason == "NOT_SHIPPABLE"
    assert await shop.stock("lamp") == (5, 0, 0)
    assert (await records.payment(order), await records.parcel(order)) == ("voided", "refused")


async def test_an_order_for_more_than_there_is_takes_nothing_and_says_what_is_missing(shop: Shop) -> None:
    await shop.price("bulb", 250)
    await shop.receive("bulb", 10)
    order = await shop.place(lines=[("bulb", 1), ("lamp", 6)])
    assert await shop.story(order) == [
        "OrderPlaced",
        "InvoiceOpened",
        "ShipmentPlanned",
        "StockRejected",
        "OrderCancelled",
        "InvoiceCancelled",
        "ShipmentCancelled",
    ]
    shown = await shop.look(order)
    assert shown.reason == "OUT_OF_STOCK"
    assert shown.detail("StockRejected")["missing"] == [{"sku": "lamp", "requested": 6, "available": 5}]
    assert (await shop.stock("lamp"), await shop.stock("bulb")) == ((5, 0, 0), (10, 0, 0))


async def test_what_was_out_of_stock_is_sold_once_it_was_received(shop: Shop) -> None:
    assert await shop.status(await shop.place(sku="lamp", quantity=8)) == "cancelled"
    await shop.receive("lamp", 3)
    assert await shop.status(await shop.place(sku="lamp", quantity=8)) == "confirmed"
    assert await shop.stock("lamp") == (0, 0, 8)


async def test_an_item_without_a_price_is_not_sold(shop: Shop) -> None:
    order = await shop.place(lines=[("lamp", 1), ("moon", 1)])
    assert await shop.story(order) == ["OrderRejected"]
    shown = await shop.look(order)
    assert (shown.status, shown.reason) == ("rejected", "NOT_PRICED")
    assert shown.detail("OrderRejected")["detail"] == "no price is set for moon"
    assert await shop.stock("lamp") == (5, 0, 0)


async def test_an_item_is_sold_in_the_currency_of_its_price_only(shop: Shop) -> None:
    order = await shop.place(sku="lamp", currency="USD")
    assert await shop.story(order) == ["OrderRejected"]
    assert (await shop.look(order)).reason == "WRONG_CURRENCY"


async def test_a_price_that_a_customer_sends_is_refused_and_orders_nothing(shop: Shop) -> None:
    body = order_body([("lamp", 1)], "card-ok", "DE", "EUR")
    body["lines"][0]["unit_price_minor"] = 1
    answer = await shop.ask("POST", "/v1/orders", customer="customer-1", key="cheap", body=body)
    assert answer.status_code == 422
    shown = await shop.settled(await shop.place(sku="lamp", key="cheap"))
    assert shown.total_minor == 1999


async def test_an_order_keeps_the_price_of_its_time(shop: Shop) -> None:
    before = await shop.place(sku="lamp")
    await shop.told(before, "OrderPlaced")
    await shop.price("lamp", 2999)
    after = await shop.place(sku="lamp")
    assert [(await shop.settled(each)).total_minor for each in (before, after)] == [1999, 2999]


async def test_the_same_idempotency_key_twice_places_one_order(shop: Shop) -> None:
    first = await shop.place(sku="lamp", quantity=2, key="once")
    assert await shop.place(sku="lamp", quantity=2, key="once") == first
    assert await shop.story(first) == CONFIRMED
    assert await shop.place(sku="lamp", quantity=2, key="once") == first, "also after the order has ended"
    other = await shop.place(sku="lamp", quantity=1, key="twice")
    assert await shop.status(other) == "confirmed"
    assert await shop.stock("lamp") == (2, 0, 3)
