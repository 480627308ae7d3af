"""What the gateway takes and refuses of stock and prices, before any server is asked."""

from datetime import UTC, datetime

import msgspec
import pytest

from api.events import ReceiveStock, SetPrice
from api.routes.items import price_id, receipt_id
from streams.inventory.events import ReceiveStock as ReportedReceipt
from streams.inventory.events import StockReceived
from streams.inventory.service import inventory
from streams.kit.events import Fact, Heard
from streams.kit.money import Money
from streams.kit.service import Service
from streams.kit.testing import Given
from streams.orders.events import PriceSet
from streams.orders.events import SetPrice as AskedPrice
from streams.orders.service import orders
from tests.api.conftest import Door, as_customer, as_operator


async def test_customers_change_neither_stock_nor_prices(door: Door):
    receipt = await door.http.post(
        "/v1/stock/lamp/receipts", json={"quantity": 1}, headers=as_customer(idempotency_key="k1")
    )
    price = await door.http.put("/v1/prices/lamp", json={"amount_minor": 1, "currency": "EUR"}, headers=as_customer())

    assert [receipt.status_code, price.status_code] == [403, 403]
    assert 'scope="stock:write"' in receipt.headers["www-authenticate"]
    assert not door.log.requests


async def test_operators_receive_stock_under_an_id_that_their_key_names(door: Door):
    answer = await door.http.post(
        "/v1/stock/lamp/receipts", json={"quantity": 5}, headers=as_operator(idempotency_key="r-1")
    )

    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/stock/lamp")
    named = receipt_id("shop", "lamp", "r-1")
    assert answer.json() == {"sku": "lamp", "request_id": named, "status_url": "/v1/stock/lamp"}
    assert door.log.last == ReceiveStock(tenant="shop", sku="lamp", quantity=5, request_id=named)
    assert door.log.last.key == "shop/lamp"


EVERY_KIND = ["r-1", "k" * 255, "2026/03/01", "/", "[::1]/../%2f;a=b,c", "".join(map(chr, range(0x23, 0x7F)))]


def decided(service: Service, asked: type[Heard], door: Door) -> list[Fact]:
    """What the service really says to the request that the gateway put on the log."""
    request = door.log.last
    heard = msgspec.convert({**msgspec.to_builtins(request), "at": datetime.now(UTC)}, asked)
    return list(Given(service, key=request.key)().when(heard).said)


@pytest.mark.parametrize("key", EVERY_KIND)
async def test_whatever_key_the_door_takes_the_receipt_and_the_price_are_no_dead_letter(door: Door, key: str):
    headers = as_operator(idempotency_key=key)
    received = await door.http.post("/v1/stock/lamp/receipts", json={"quantity": 5}, headers=headers)
    counted_in = decided(inventory, ReportedReceipt, door)
    priced = await door.http.put("/v1/prices/lamp", json={"amount_minor": 1, "currency": "EUR"}, headers=headers)
    price_set = decided(orders, AskedPrice, door)

    assert [received.status_code, priced.status_code] == [202, 202]
    assert [type(fact) for fact in (*counted_in, *price_set)] == [StockReceived, PriceSet]


def test_one_key_is_another_id_for_each_route_each_tenant_and_each_item():
    things = [("a", "b", "c/d"), ("a", "b", "d"), ("b", "b", "d"), ("a", "c", "d")]

    assert len({of(*thing) for of in (receipt_id, price_id) for thing in things}) == 8


WRITTEN = {"5": 202, "5.0": 202, "5e0": 202, "5.5": 422, "1e400": 422, '"5"': 422}


@pytest.mark.parametrize(("written", "status"), WRITTEN.items())
async def test_an_integer_is_one_however_it_is_written(door: Door, written: str, status: int):
    headers = {**as_operator(idempotency_key="r-1"), "Content-Type": "application/json"}
    answer = await door.http.post("/v1/stock/lamp/receipts", content=f'{{"quantity": {written}}}', headers=headers)

    assert answer.status_code == status
    assert [request.quantity for request, *_ in door.log.requests] == ([5] if status == 202 else [])


async def test_operators_set_prices(door: Door):
    price = {"amount_minor": 600, "currency": "EUR"}
    began = datetime.now(UTC)
    answer = await door.http.put("/v1/prices/lamp", json=price, headers=as_operator(idempotency_key="p-1"))

    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/prices/lamp")
    named = price_id("shop", "lamp", "p-1")
    as_of = door.log.last.as_of
    assert began <= as_of <= datetime.now(UTC)
    assert door.log.last == SetPrice(
        tenant="shop", sku="lamp", price=Money(**price), request_id=named, as_of=as_of
    )


async def test_a_price_set_without_a_key_has_a_request_id_of_its_own(door: Door):
    for _ in range(2):
        await door.http.put("/v1/prices/lamp", json={"amount_minor": 0, "currency": "EUR"}, headers=as_operator())

    first, second = (request.request_id for request, _, _ in door.log.requests)
    assert first != second


async def test_a_sku_in_the_address_is_checked_as_in_a_body(door: Door):
    answer = await door.http.put("/v1/prices/a b", json={"amount_minor": 1, "currency": "EUR"}, headers=as_operator())

    assert answer.status_code == 422
    assert [error["parameter"] for error in answer.json()["errors"]] == ["path/sku"]


async def test_unknown_items_are_not_found(door: Door):
    for address in ("/v1/stock/lamp", "/v1/prices/lamp"):
        answer = await door.http.get(address, headers=as_customer())

        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-item")
