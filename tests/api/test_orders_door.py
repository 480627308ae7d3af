"""What the gateway takes and refuses of orders, before any server is asked."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from api.answers import Order
from api.bodies import plain_text
from api.errors import NotAccepted, OutcomeUnknown
from api.events import Address, CancelOrder, OrderLine, PlaceOrder
from api.idempotency import Idempotency, name_of
from streams.kit.protection import DataKey
from tests.api.conftest import Door, as_customer, order, token


async def test_an_order_is_asked_for_on_the_log_and_answered_with_its_address(door: Door):
    answer = await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

    order_id = name_of("shop", "k1")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/orders/{order_id}"
    assert answer.json() == {"order_id": order_id, "status_url": f"/v1/orders/{order_id}"}
    protect = door.keys.of_person("shop", "c7").protect
    assert door.log.last == PlaceOrder(
        tenant="shop",
        order_id=order_id,
        customer=protect("customer", "c7"),
        lines=(OrderLine(sku="lamp", quantity=2),),
        currency="EUR",
        payment_method="card-ok",
        ship_to=Address(
            recipient=protect("recipient", "Ada Lovelace"),
            street=protect("street", "12 St James's Square"),
            postal_code=protect("postal_code", "SW1Y 4JH"),
            city=protect("city", "London"),
            country="GB",
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

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency-key")
    assert not door.log.requests


async def test_a_missing_key_is_refused(door: Door):
    answer = await door.http.post("/v1/orders", json=order(), headers=as_customer())

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency-key")


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
    assert (answer.status_code, problem["type"]) == (422, "/problems/invalid-request")
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

    recipient = door.keys.reveal("recipient", door.log.last.ship_to.recipient)
    assert recipient == unicodedata.normalize("NFC", written).strip()


async def test_a_refusal_never_repeats_what_was_sent(door: Door):
    wrong = order(ship_to={**order()["ship_to"], "recipient": "Secret\x00Name"})
    answer = await door.http.post("/v1/orders", json=wrong, headers=as_customer(idempotency_key="k1"))

    assert "Secret" not in answer.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "cp1252"])
async def test_json_in_another_encoding_than_utf_8_is_refused(door: Door, encoding: str):
    body = json.dumps(order(payment_method="card-ok", ship_to={"city": "Zürich"}), ensure_ascii=False).encode(encoding)
    headers = as_customer(idempotency_key="k1", content_type="application/json; charset=utf-8")

    answer = await door.http.post("/v1/orders", content=body, headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-body")
    assert not door.log.requests


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        ('"currency": "EUR"', '"currency": "EUR", "currency": "USD"'),
        ('"quantity": 2', '"quantity": 2, "quantity": 2'),
        ('"city"', '"city": "Paris", "c\\u0069ty"'),
    ],
)
async def test_a_name_that_stands_twice_is_refused_at_any_depth(door: Door, once: str, twice: str):
    body = json.dumps(order())
    assert once in body
    headers = as_customer(idempotency_key="k1", content_type="application/json")

    answer = await door.http.post("/v1/orders", content=body.replace(once, twice), headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/malformed-body")
    assert "twice" in answer.json()["detail"]
    assert not door.log.requests


@pytest.mark.parametrize("body", [b"{", b"", b"[" * 50_000, b"\xff\xfe", b'{"lines": NaN}'])
async def test_what_is_not_an_order_in_json_is_a_problem_of_the_caller(door: Door, body: bytes):
    headers = {**as_customer(idempotency_key="k1"), "Content-Type": "application/json"}
    answer = await door.http.post("/v1/orders", content=body, headers=headers)

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_without_a_token_nothing_is_told(door: Door):
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}):
        answer = await door.http.post("/v1/orders", json=order(), headers=headers)

        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_cancelling_is_asked_of_the_orders_owner_only(door: Door):
    order_id = name_of("shop", "k1")
    protect = door.keys.of_person("shop", "c7").protect
    door.timeline.orders[order_id, "shop", protect("customer", "c7")] = Order(
        order_id=order_id, status="placed", stage="placed"
    )

    mine = await door.http.post(f"/v1/orders/{order_id.upper()}/cancellation", headers=as_customer("c7"))
    theirs = await door.http.post(f"/v1/orders/{order_id}/cancellation", headers=as_customer("c8"))

    assert (mine.status_code, theirs.status_code) == (202, 404)
    assert [request for request, _, _ in door.log.requests] == [
        CancelOrder(tenant="shop", order_id=order_id, asked_by=protect("asked_by", "c7"))
    ]


async def test_who_uses_anothers_key_that_redis_has_forgotten_gets_no_hold_of_their_order(
    door: Door, monkeypatch: pytest.MonkeyPatch
):
    async def was_accepted(keys: Idempotency, name: str, of: str) -> bool:
        return of.startswith("shop/")

    monkeypatch.setattr(Idempotency, "was_accepted", was_accepted)
    for customer in ("c7", "c8"):
        await door.http.post("/v1/orders", json=order(), headers=as_customer(customer, idempotency_key="k1"))
    first = door.log.requests[0][0]
    assert isinstance(first, PlaceOrder)
    placed = Order(order_id=first.order_id, status="placed", stage="placed")
    door.timeline.orders[first.order_id, "shop", first.customer] = placed
    asked = len(door.log.requests)

    address = f"/v1/orders/{first.order_id}"
    read = await door.http.get(address, headers=as_customer("c8"))
    followed = await door.http.get(f"{address}/events", headers=as_customer("c8"))
    cancelled = await door.http.post(f"{address}/cancellation", headers=as_customer("c8"))

    assert [read.status_code, followed.status_code, cancelled.status_code] == [404, 404, 404]
    assert len(door.log.requests) == asked


async def test_a_customer_who_was_forgotten_orders_again_as_somebody_new(door: Door):
    await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))
    before = door.log.last
    door.timeline.orders[before.order_id, "shop", before.customer] = Order(
        order_id=before.order_id, status="placed", stage="placed"
    )
    door.keys.destroy("shop", "c7")

    earlier = await door.http.get(f"/v1/orders/{before.order_id}", headers=as_customer())
    again = await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k2"))

    assert (earlier.status_code, again.status_code) == (404, 202)
    assert door.keys.reveal("customer", door.log.last.customer) == "c7"
    assert door.log.last.customer != before.customer


async def test_a_customer_is_not_who_is_named_like_a_customers_token(door: Door):
    """Whoever can read the log knows tokens; a caller whose number is one is still somebody else."""
    await door.http.post("/v1/orders", json=order(), headers=as_customer("c7", idempotency_key="k1"))
    victim = door.log.last.customer

    await door.http.post("/v1/orders", json=order(), headers=as_customer(victim, idempotency_key="k2"))

    assert door.keys.reveal("customer", door.log.last.customer) == victim


async def test_each_personal_text_of_an_order_is_sealed_once(door: Door, monkeypatch: pytest.MonkeyPatch):
    sealed: list[str] = []
    protect = DataKey.protect
    monkeypatch.setattr(DataKey, "protect", lambda key, field, text: sealed.append(field) or protect(key, field, text))

    await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

    assert sorted(sealed) == ["city", "customer", "postal_code", "recipient", "street"]


async def test_while_a_customer_is_being_forgotten_nothing_new_is_taken(door: Door):
    door.keys.of_person("shop", "c7").is_closing = True

    answer = await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/being-forgotten")
    assert "retry-after" in answer.headers
    assert not door.log.requests


async def test_without_keys_no_order_is_taken_and_none_goes_onto_the_log_in_plain_text(door: Door):
    with door.keys.away():
        answer = await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert not door.log.requests


async def test_looking_at_orders_makes_no_key(door: Door):
    await door.http.get(f"/v1/orders/{name_of('shop', 'k1')}", headers=as_customer())

    assert not door.keys.persons


@pytest.mark.parametrize("order_id", ["nonsense", "10b6bc1c-0ad5-5c71-a7c2-e4ea5c1ae4c", "%00", "'; DROP TABLE x"])
async def test_what_is_no_order_id_is_no_order(door: Door, order_id: str):
    answer = await door.http.get(f"/v1/orders/{order_id}", headers=as_customer())

    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/no-such-order")


async def test_a_log_that_cannot_be_reached_is_told_as_it_is(door: Door):
    for refusal, slug in ((NotAccepted(), "not-accepted"), (OutcomeUnknown(), "outcome-unknown")):
        door.log.refuses_with = refusal
        answer = await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))

        assert (answer.status_code, answer.json()["type"]) == (503, f"/problems/{slug}")
        assert "same Idempotency-Key" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0


@given(st.text(st.characters(max_codepoint=0xFF)))
def test_a_text_is_taken_unless_it_is_blank_or_has_control_characters(text: str):
    stripped = text.strip()
    try:
        taken = plain_text(text)
    except PydanticCustomError:
        taken = None

    good = stripped and all(unicodedata.category(character) != "Cc" for character in stripped)
    assert taken == (unicodedata.normalize("NFC", stripped) if good else None)
