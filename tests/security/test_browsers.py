"""A page of another site can make a browser send requests. It gets nothing, and does nothing."""

import httpx
import pytest

from tests.api.conftest import Door, as_customer, order
from tests.security.forging import genuine

SITE = "https://shop.example"


async def test_no_answer_sets_a_cookie_and_none_is_read(door: Door):
    answers = [
        await door.http.get("/health/live"),
        await door.http.get("/v1/stock/lamp", headers=as_customer()),
        await door.http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1")),
        await door.http.get("/v1/nowhere"),
    ]
    by_cookie = await door.http.get("/v1/stock/lamp", headers={"Cookie": f"Authorization=Bearer {genuine()}"})

    assert not any("set-cookie" in answer.headers for answer in answers)
    assert by_cookie.status_code == 401


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""])
async def test_a_form_or_simple_request_of_another_site_does_nothing(door: Door, kind: str):
    """What a browser sends without asking first (Fetch, "CORS-safelisted"): it cannot carry our token."""
    headers = {"Origin": SITE, "Cookie": "session=1", "Sec-Fetch-Site": "cross-site"}
    if kind:
        headers["Content-Type"] = kind
    for path in ("/v1/orders", "/v1/orders/10b6bc1c-0ad5-5c71-a7c2-e4ea5c1ae4c1/cancellation"):
        answer = await door.http.post(path, content=b'{"lines": []}', headers=headers)

        assert answer.status_code == 401
        assert "access-control-allow-origin" not in answer.headers
    assert not door.log.requests


@pytest.mark.parametrize("origin", [SITE, "null", "http://gateway", "http://127.0.0.1"])
async def test_no_site_is_allowed_to_ask_with_a_token_or_to_read_an_answer(door: Door, origin: str):
    asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    asking["Access-Control-Request-Headers"] = "authorization, idempotency-key"

    preflight = await door.http.options("/v1/orders", headers=asking)
    read = await door.http.get("/v1/stock/lamp", headers={**as_customer(), "Origin": origin})

    assert preflight.status_code == 405
    for answer in (preflight, read):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/health/live", "/v1/nowhere", "/v1/stock/lamp", "/openapi.json", "/metrics"])
async def test_every_answer_says_what_a_browser_must_not_do_with_it(door: Door, path: str):
    answer = await door.http.get(path)

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert "server" not in answer.headers


async def test_the_method_cannot_be_changed_by_a_header_or_the_address(door: Door):
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        answer = await door.http.get("/v1/stock/lamp?_method=POST", headers={**as_customer(), name: "POST"})
        assert answer.status_code == 404
    assert not door.log.requests


async def test_a_host_header_leads_nowhere(door: Door):
    headers = {**as_customer(idempotency_key="k1"), "Host": "attacker.example", "X-Forwarded-Host": "attacker.example"}
    answer = await door.http.post("/v1/orders", json=order(), headers=headers)

    assert answer.status_code == 202
    assert "attacker" not in str(httpx.Headers(answer.headers)) + answer.text
