"""What the gateway takes and refuses, before any server is asked."""

import asyncio
import json
import unicodedata
from typing import Any

import httpx
import pytest

from api import edge
from api.answers import Order
from api.errors import NotAccepted, OutcomeUnknown
from api.events import Address, CancelOrder, OrderLine, PlaceOrder, ReceiveStock, SetPrice
from api.idempotency import name_of
from streams.kit.money import Money
from tests.api.conftest import Door, as_customer, as_operator, order, serving, token

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_an_order_is_asked_for_on_the_log_and_answered_with_its_address(door: Door):
    answer = await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

    order_id = name_of("shop", "k1")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/orders/{order_id}"
    assert answer.json() == {"order_id": order_id, "status_url": f"/v1/orders/{order_id}"}
    assert door.log.last == PlaceOrder(
        tenant="shop",
        order_id=order_id,
        customer="c7",
        lines=(OrderLine(sku="lamp", quantity=2),),
        currency="EUR",
        payment_method="card-ok",
        ship_to=Address(
            recipient="Ada Lovelace", street="12 St James's Square", postal_code="SW1Y 4JH", city="London", country="GB"
        ),
    )
    assert door.log.last.key == order_id


async def test_a_retry_names_the_same_order_even_without_redis(door: Door):
    for _ in range(2):
        await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

    first, second = (request for request, _, _ in door.log.requests)
    assert first == second


def test_order_ids_never_change_their_derivation():
    """Ids given out must be found again by a retry for as long as Pavane runs."""
    assert name_of("shop", "k1") == "d4a7d48b-db06-538c-9fd7-a13761722e63"


async def test_the_same_key_of_two_tenants_names_two_orders(door: Door):
    for tenant in ("shop", "other"):
        headers = {"Authorization": f"Bearer {token(tenant=tenant)}", "Idempotency-Key": "k1"}
        await door.http.post("/v1/orders", json=order(), headers=headers)

    assert len({request.key for request, _, _ in door.log.requests}) == 2


@pytest.mark.parametrize("key", ["", '""', "two words", "x" * 256, "caf\u00e9"])
async def test_an_unusable_key_is_refused(door: Door, key: str):
    headers: Any = {**as_customer(), "Idempotency-Key": key.encode("latin-1")}
    answer = await door.http.post("/v1/orders", json=order(), headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (400, "urn:pavane:problem:idempotency-key")
    assert not door.log.requests


async def test_a_missing_key_is_refused(door: Door):
    answer = await door.http.post("/v1/orders", json=order(), headers=as_customer())

    assert (answer.status_code, answer.json()["type"]) == (400, "urn:pavane:problem:idempotency-key")


async def test_a_quoted_key_is_the_same_key(door: Door):
    for key in ("k1", '"k1"'):
        await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=key))

    assert len({request.key for request, _, _ in door.log.requests}) == 1


WRONG = [
    ({"lines": []}, "#/lines"),
    ({"lines": [{"sku": "lamp", "quantity": 1}] * 101}, "#/lines"),
    ({"lines": [{"sku": "lamp", "quantity": 0}]}, "#/lines/0/quantity"),
    ({"lines": [{"sku": "lamp", "quantity": 10_001}]}, "#/lines/0/quantity"),
    ({"lines": [{"sku": "lamp", "quantity": "1"}]}, "#/lines/0/quantity"),
    ({"lines": [{"sku": "lamp", "quantity": True}]}, "#/lines/0/quantity"),
    ({"lines": [{"sku": "lamp", "quantity": 1.5}]}, "#/lines/0/quantity"),
    ({"lines": [{"sku": "a/b", "quantity": 1}]}, "#/lines/0/sku"),
    ({"lines": [{"sku": "lamp\n", "quantity": 1}]}, "#/lines/0/sku"),
    ({"lines": [{"sku": "x" * 65, "quantity": 1}]}, "#/lines/0/sku"),
    ({"lines": [{"sku": "lamp", "quantity": 1, "unit_price": 1}]}, "#/lines/0/unit_price"),
    ({"currency": "eur"}, "#/currency"),
    ({"currency": None}, "#/currency"),
    ({"payment_method": "card ok"}, "#/payment_method"),
    ({"ship_to": {}}, "#/ship_to/recipient"),
    ({"tenant": "other"}, "#/tenant"),
    ({"a~b/c": 1}, "#/a~0b~1c"),
]


@pytest.mark.parametrize(("changes", "pointer"), WRONG)
async def test_what_is_wrong_is_pointed_at(door: Door, changes: dict[str, Any], pointer: str):
    answer = await door.http.post("/v1/orders", json=order(**changes), headers=as_customer(idempotency_key="k1"))

    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "urn:pavane:problem:invalid-request")
    assert pointer in [error["pointer"] for error in problem["errors"]]
    assert not door.log.requests


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb", "a\u2028b", "\u202eadA", "\ue000", "x" * 201])
async def test_a_name_that_cannot_be_printed_is_refused(door: Door, name: str):
    wrong = order(ship_to={**order()["ship_to"], "recipient": name})
    answer = await door.http.post("/v1/orders", json=wrong, headers=as_customer(idempotency_key="k1"))

    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/ship_to/recipient"]


async def test_a_lone_surrogate_is_refused(door: Door):
    body = b'{"lines":[{"sku":"lamp","quantity":1}],"currency":"EUR","payment_method":"card-ok","ship_to":{"recipient":'
    body += b'"\\ud800","street":"s","postal_code":"1","city":"c","country":"GB"}}'
    headers = {**as_customer(idempotency_key="k1"), "Content-Type": "application/json"}

    answer = await door.http.post("/v1/orders", content=body, headers=headers)

    assert [error["pointer"] for error in answer.json()["errors"]] == ["#/ship_to/recipient"]


async def test_names_of_all_languages_come_through_as_nfc(door: Door):
    written = unicodedata.normalize("NFD", "  Zoë Ångström · محمد · ध्रुव‍ ")
    placed = order(ship_to={**order()["ship_to"], "recipient": written})
    await door.http.post("/v1/orders", json=placed, headers=as_customer(idempotency_key="k1"))

    assert door.log.last.ship_to.recipient == unicodedata.normalize("NFC", written).strip()


async def test_a_refusal_never_repeats_what_was_sent(door: Door):
    wrong = order(ship_to={**order()["ship_to"], "recipient": "Secret\x00Name"})
    answer = await door.http.post("/v1/orders", json=wrong, headers=as_customer(idempotency_key="k1"))

    assert "Secret" not in answer.text


@pytest.mark.parametrize("body", [b"{", b"", b"[" * 50_000, b"\xff\xfe", b'{"lines": NaN}'])
async def test_what_is_not_an_order_in_json_is_a_problem_of_the_caller(door: Door, body: bytes):
    headers = {**as_customer(idempotency_key="k1"), "Content-Type": "application/json"}
    answer = await door.http.post("/v1/orders", content=body, headers=headers)

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_that_is_too_large_is_refused_by_its_length_and_by_its_size(door: Door):
    headers = {**as_customer(idempotency_key="k1"), "Content-Type": "application/json"}
    whole = b" " * (edge.MOST_BODY_BYTES + 1)

    async def in_pieces():
        for _ in range(3):
            yield whole[: len(whole) // 2]

    for content in (whole, in_pieces()):
        answer = await door.http.post("/v1/orders", content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:pavane:problem:body-too-large")


async def test_a_body_that_does_not_come_is_not_waited_for(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edge, "BODY_SECONDS", 0.1)
    async with serving(door.app) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(address).port)
        writer.write(b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")

        answer = await reader.readuntil(b"}")

        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_caller_that_goes_away_in_the_middle_has_asked_for_nothing(door: Door):
    body = json.dumps(order()).encode()
    pieces = [{"type": "http.request", "body": body, "more_body": True}, {"type": "http.disconnect"}]
    answers: list[Any] = []

    async def receive() -> Any:
        return pieces.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    headers = [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")]
    headers += [(name.lower().encode(), value.encode()) for name, value in as_customer(idempotency_key="k1").items()]
    await door.app({"type": "http", "method": "POST", "path": "/v1/orders", "headers": headers}, receive, send)

    assert not answers
    assert not door.log.requests


async def test_without_a_token_nothing_is_told(door: Door):
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}):
        answer = await door.http.post("/v1/orders", json=order(), headers=headers)

        assert (answer.status_code, answer.json()["type"]) == (401, "urn:pavane:problem:unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_customers_change_neither_stock_nor_prices(door: Door):
    receipt = await door.http.post(
        "/v1/stock/lamp/receipts", json={"quantity": 1}, headers=as_customer(idempotency_key="k1")
    )
    price = await door.http.put("/v1/prices/lamp", json={"amount_minor": 1, "currency": "EUR"}, headers=as_customer())

    assert [receipt.status_code, price.status_code] == [403, 403]
    assert 'scope="stock:write"' in receipt.headers["www-authenticate"]
    assert not door.log.requests


async def test_operators_receive_stock_under_their_own_receipt_id(door: Door):
    answer = await door.http.post(
        "/v1/stock/lamp/receipts", json={"quantity": 5}, headers=as_operator(idempotency_key="r-1")
    )

    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/stock/lamp")
    assert answer.json() == {"sku": "lamp", "request_id": "r-1", "status_url": "/v1/stock/lamp"}
    assert door.log.last == ReceiveStock(tenant="shop", sku="lamp", quantity=5, request_id="r-1")
    assert door.log.last.key == "shop/lamp"


async def test_operators_set_prices(door: Door):
    price = {"amount_minor": 600, "currency": "EUR"}
    answer = await door.http.put("/v1/prices/lamp", json=price, headers=as_operator(idempotency_key="p-1"))

    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/prices/lamp")
    assert door.log.last == SetPrice(tenant="shop", sku="lamp", price=Money(**price), request_id="p-1")


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

        assert (answer.status_code, answer.json()["type"]) == (404, "urn:pavane:problem:no-such-item")


async def test_cancelling_is_asked_of_the_orders_owner_only(door: Door):
    order_id = name_of("shop", "k1")
    door.timeline.orders[order_id, "shop", "c7"] = Order(order_id=order_id, status="placed", stage="placed")

    mine = await door.http.post(f"/v1/orders/{order_id.upper()}/cancellation", headers=as_customer("c7"))
    theirs = await door.http.post(f"/v1/orders/{order_id}/cancellation", headers=as_customer("c8"))

    assert (mine.status_code, theirs.status_code) == (202, 404)
    assert [request for request, _, _ in door.log.requests] == [
        CancelOrder(tenant="shop", order_id=order_id, asked_by="c7")
    ]


@pytest.mark.parametrize("order_id", ["nonsense", "10b6bc1c-0ad5-5c71-a7c2-e4ea5c1ae4c", "%00", "'; DROP TABLE x"])
async def test_what_is_no_order_id_is_no_order(door: Door, order_id: str):
    answer = await door.http.get(f"/v1/orders/{order_id}", headers=as_customer())

    assert (answer.status_code, answer.json()["type"]) == (404, "urn:pavane:problem:no-such-order")


async def test_correlation_and_trace_travel_onto_the_log_and_back(door: Door):
    headers = as_customer(idempotency_key="k1", x_correlation_id="web-42", traceparent=TRACEPARENT)
    answer = await door.http.post("/v1/orders", json=order(), headers=headers)

    assert answer.headers["x-correlation-id"] == "web-42"
    assert door.log.requests[0][1:] == ("web-42", TRACEPARENT.encode())


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a;b", "\u00e9"])
async def test_an_unsafe_correlation_id_is_replaced(door: Door, given: str):
    headers: Any = {"X-Correlation-Id": given.encode("latin-1"), "traceparent": "nonsense"}
    answer = await door.http.get("/health/live", headers=headers)

    assert len(answer.headers["x-correlation-id"]) == 36


async def test_a_log_that_cannot_be_reached_is_told_as_it_is(door: Door):
    for refusal, slug in ((NotAccepted(), "not-accepted"), (OutcomeUnknown(), "outcome-unknown")):
        door.log.refuses_with = refusal
        answer = await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

        assert (answer.status_code, answer.json()["type"]) == (503, f"urn:pavane:problem:{slug}")
        assert "same Idempotency-Key" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0


async def test_a_mistake_of_ours_shows_no_trace(door: Door):
    door.log.refuses_with = ZeroDivisionError("secret detail")
    headers = as_customer(idempotency_key="k1", x_correlation_id="web-43")
    answer = await door.http.post("/v1/orders", json=order(), headers=headers)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["correlation_id"] == answer.headers["x-correlation-id"] == "web-43"
    assert "secret" not in answer.text


async def test_addresses_and_methods_that_are_not_there_are_problems_too(door: Door):
    nowhere = await door.http.get("/v1/nowhere")
    wrong_method = await door.http.delete("/v1/orders/x")

    assert (nowhere.status_code, nowhere.json()["type"]) == (404, "urn:pavane:problem:no-such-route")
    assert (wrong_method.status_code, wrong_method.json()["type"]) == (405, "urn:pavane:problem:method-not-allowed")
    assert wrong_method.headers["allow"] == "GET"


async def test_answers_are_never_cached_by_others(door: Door):
    answer = await door.http.get("/health/live")

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_without_redis_the_gateway_is_degraded_but_ready(door: Door):
    answer = await door.http.get("/health/ready")

    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert list(answer.json()["missing"]) == ["redis"]


async def test_metrics_count_answers_by_route_and_never_by_id(door: Door):
    await door.http.get("/v1/orders/10b6bc1c-0ad5-5c71-a7c2-e4ea5c1ae4c1", headers=as_customer())
    metrics = (await door.http.get("/metrics")).text

    assert 'pavane_gateway_answers_total{method="GET",route="/v1/orders/{order_id}",status="404"}' in metrics
    assert "10b6bc1c" not in metrics


async def test_a_request_without_redis_is_counted_as_unguarded(door: Door):
    async def unguarded() -> float:
        text = (await door.http.get("/metrics")).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if 'outcome="unguarded"' in line)

    before = await unguarded()
    await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

    assert await unguarded() == before + 1
