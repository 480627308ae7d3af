"""What holds for every request: bounds, ids, measurements, and that every refusal is a problem."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from api import edge
from api.answers import Order
from api.app import application
from api.correlation import traceparent_of
from api.desk import Desk
from api.versions import Deprecated
from tests.api.conftest import NOWHERE, Door, as_customer, as_operator, order, serving

MEBIBYTE = 1024 * 1024
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_body_that_is_too_large_is_refused_by_its_length_and_by_its_size(door: Door):
    headers = {**as_customer(idempotency_key="k1"), "Content-Type": "application/json"}
    whole = b" " * (edge.MOST_BODY_BYTES + 1)

    async def in_pieces():
        for _ in range(3):
            yield whole[: len(whole) // 2]

    for content in (whole, in_pieces()):
        answer = await door.http.post("/v1/orders", content=content, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/body-too-large")


@pytest.mark.parametrize("mebibytes", [5, 1_000])
async def test_who_sends_far_too_much_sees_the_answer_within_a_bound_of_what_is_read(
    door: Door, mebibytes: int, monkeypatch: pytest.MonkeyPatch
):
    sent, read = 0, MEBIBYTE * mebibytes
    monkeypatch.setattr(edge, "MOST_FORGOTTEN_BYTES", 8 * MEBIBYTE)

    async def receive() -> Any:
        nonlocal sent
        sent += MEBIBYTE
        return {"type": "http.request", "body": b" " * MEBIBYTE, "more_body": sent < read}

    answers: list[Any] = []

    async def send(message: Any) -> None:
        answers.append(message)

    headers = [(b"content-length", str(read).encode()), (b"content-type", b"application/json")]
    await door.app({"type": "http", "method": "POST", "path": "/v1/orders", "headers": headers}, receive, send)

    assert answers[0]["status"] == 413
    assert sent == min(mebibytes, 8) * MEBIBYTE


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


async def test_the_trace_that_a_request_belongs_to_comes_back_with_its_answer(door: Door):
    answer = await door.http.get("/v1/nowhere", headers={"traceparent": TRACEPARENT})
    wrong = await door.http.get("/health/live", headers={"traceparent": "nonsense"})

    assert answer.headers["traceparent"] == TRACEPARENT
    assert "traceparent" not in wrong.headers


IDS = TRACEPARENT[3:52]


@pytest.mark.parametrize(
    ("given", "goes_on"),
    [
        ([f"00-{IDS}-01"], f"00-{IDS}-01"),
        ([f"00-{IDS}-fe"], f"00-{IDS}-fe"),
        ([f"01-{IDS}-03"], f"00-{IDS}-01"),
        ([f"cc-{IDS}-00-more=1"], f"00-{IDS}-00"),
        ([f"00-{IDS}-01-more"], None),
        ([f"01-{IDS}-01more"], None),
        ([f"ff-{IDS}-01"], None),
        ([f"00-{'0' * 32}-{IDS[33:]}-01"], None),
        ([f"00-{IDS[:32]}-{'0' * 16}-01"], None),
        ([f"00-{IDS.upper()}-01"], None),
        ([f"00-{IDS}-01\u00e9"], None),
        ([f"00-{IDS}-01", f"00-{IDS}-01"], None),
        ([], None),
    ],
)
def test_a_trace_is_taken_by_the_standard(given: list[str], goes_on: str | None):
    headers = [(b"traceparent", each.encode("latin-1")) for each in given]

    assert traceparent_of(headers) == (goes_on.encode() if goes_on else None)


REDRIVE = "/v1/dead-letters/billing/0/12/redrive"


async def redriven(door: Door, desk: str) -> httpx.Response:
    app = application(replace(door.app._app._app.state.gateway, desk=Desk(desk)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        answer = await http.post(REDRIVE, json={"why": "it is mended"}, headers=as_operator())
    await app._app._app.state.gateway.desk.close()
    return answer


async def test_who_had_something_tried_again_is_told_that_it_may_be_under_way_when_the_desk_was_asked(door: Door):
    asked: list[bytes] = []

    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n"))
        writer.close()

    async with await asyncio.start_server(breaks_off, "127.0.0.1", 0) as server:
        heard = await redriven(door, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    unheard = await redriven(door, f"http://{NOWHERE}")

    assert asked == [f"POST {REDRIVE} HTTP/1.1\r\n".encode()]
    assert "it may be trying it. GET /v1/dead-letters/billing/0/12 tells" in heard.json()["detail"]
    assert "What waits goes on waiting" in unheard.json()["detail"]
    assert all((answer.status_code, answer.headers["retry-after"]) == (503, "2") for answer in (heard, unheard))


async def test_where_there_is_no_desk_nobody_is_told_to_ask_again(door: Door):
    answer = await redriven(door, "")

    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("given", [TRACEPARENT, "00-\u00e9", f"ff-{IDS}-01", None])
async def test_a_desk_is_told_the_trace_only_if_it_is_one(door: Door, given: str | None):
    asked: list[dict[bytes, bytes]] = []

    async def desk(scope: Any, receive: Any, send: Any) -> None:
        asked.append(dict(scope["headers"]))
        await Response(b"{}")(scope, receive, send)

    async with lone(desk) as address:
        app = application(replace(door.app._app._app.state.gateway, desk=Desk(address)))
        headers: Any = {**as_operator(), **({"traceparent": given.encode("latin-1")} if given else {})}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
            answer = await http.get("/v1/dead-letters", headers=headers)
        await app._app._app.state.gateway.desk.close()

    assert answer.status_code == 200
    assert asked[0].get(b"traceparent") == (TRACEPARENT.encode() if given == TRACEPARENT else None)


@asynccontextmanager
async def lone(app: Any) -> AsyncIterator[str]:
    """An application of somebody else, which has no start and no end."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)

    async with serving(served) as address:
        yield address


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

    assert (nowhere.status_code, nowhere.json()["type"]) == (404, "/problems/no-such-route")
    assert (wrong_method.status_code, wrong_method.json()["type"]) == (405, "/problems/method-not-allowed")
    assert wrong_method.headers["allow"] == "GET, HEAD"


async def test_too_many_at_once_are_turned_away_but_health_still_answers(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edge, "MOST_UNDER_WAY", 0)
    monkeypatch.setattr(edge, "MOST_STREAMS", 0)
    app = application(door.app._app._app.state.gateway)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        placed = await http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))
        stream = await http.get("/v1/orders/events", headers=as_customer())
        live = await http.get("/health/live")

    for turned_away in (placed, stream):
        assert (turned_away.status_code, turned_away.json()["type"]) == (503, "/problems/overloaded")
    assert live.status_code == 200


async def test_writes_that_wait_leave_places_for_reading(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(edge, "MOST_WRITES", 0)
    app = application(door.app._app._app.state.gateway)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        placed = await http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key="k1"))
        looked = await http.get("/v1/stock/lamp", headers=as_customer())

    assert (placed.status_code, placed.json()["type"]) == (503, "/problems/overloaded")
    assert looked.status_code == 404


async def test_the_api_describes_itself_with_tokens_keys_and_problems(door: Door):
    description = (await door.http.get("/openapi.json")).json()

    placing = description["paths"]["/v1/orders"]["post"]
    assert placing["security"] == [{"bearer": ["orders:write"]}]
    assert [p["name"] for p in placing["parameters"] if p["required"]] == ["Idempotency-Key"]
    assert list(placing["responses"]["default"]["content"]) == ["application/problem+json"]
    assert set(placing["responses"]) >= {"202", "400", "401", "409", "413", "415", "422", "503", "default"}


async def test_answers_are_never_cached_by_others(door: Door):
    answer = await door.http.get("/health/live")

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_without_redis_the_gateway_is_degraded_but_ready(door: Door):
    answer = await door.http.get("/health/ready")

    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert list(answer.json()["missing"]) == ["redis"]


async def test_health_tells_strangers_no_address_of_ours(door: Door):
    answer = await door.http.get("/health/ready")

    assert answer.json()["missing"]
    assert "127.0.0.1" not in answer.text


async def test_a_round_trip_is_for_operators_and_fails_where_nothing_comes_back(
    door: Door, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("api.deep.PATIENCE_SECONDS", 0.2)

    answers = [await door.http.get("/health/deep", headers=who) for who in ({}, as_customer(), as_operator())]

    assert [answer.status_code for answer in answers] == [401, 403, 503]
    assert answers[2].json()["missing"].keys() == {"redis", "orders, timeline and database"}
    assert answers[2].json()["seconds"].keys() == {"log"}
    assert [request.tenant for request, _, _ in door.log.requests] == ["_gateway"]
    assert "127.0.0.1" not in answers[2].text


async def test_without_docs_the_api_is_not_described_but_its_problems_are(door: Door):
    gateway = door.app._app._app.state.gateway
    app = application(gateway, docs=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        found = {path: (await http.get(path)).status_code for path in ("/docs", "/openapi.json", "/problems/")}

    assert found == {"/docs": 404, "/openapi.json": 404, "/problems/": 200}


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


async def test_a_route_that_will_go_says_since_when_until_when_and_what_comes_instead(
    door: Door, monkeypatch: pytest.MonkeyPatch
):
    since, gone = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    there = {"/v1/orders/{order_id}": Deprecated(since, gone, "/v2/orders")}
    monkeypatch.setattr("api.versions.DEPRECATED", there)

    answer = await door.http.get("/v1/orders/x", headers=as_customer())
    other = await door.http.get("/v1/orders", headers=as_customer())

    assert answer.headers["deprecation"] == "@1798761600"
    assert answer.headers["sunset"] == "Sat, 01 Jan 2028 00:00:00 GMT"
    assert '</v2/orders>; rel="successor-version"' in answer.headers["link"]
    assert "deprecation" not in other.headers


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/orders", "GET, HEAD, POST"), ("/v1/prices/lamp", "GET, HEAD, PUT"), ("/v1/orders/x/events", "GET")],
)
async def test_a_method_that_is_not_taken_is_answered_by_all_that_are(door: Door, path: str, allowed: str):
    answer = await door.http.request("OPTIONS", path, headers=as_customer())

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


ORDER_ID = "865cbcd3-3329-5abb-b90c-492e7db727ba"


@pytest.mark.parametrize(
    "path", [f"/v1/orders/{ORDER_ID}", "/v1/orders", "/v1/orders/none", "/v1/stock/lamp", "/health/live", "/metrics"]
)
async def test_head_is_answered_as_get_without_the_content(door: Door, path: str):
    customer = door.keys.of_person("shop", "c7").protect("customer", "c7")
    door.timeline.orders[ORDER_ID, "shop", customer] = Order(order_id=ORDER_ID, status="placed", stage="placed")
    async with serving(door.app) as address, httpx.AsyncClient(base_url=address) as http:
        # Twice on one connection: nothing is left on it that would be taken for the next answer.
        heads = [await http.head(path, headers=as_customer()) for _ in range(2)]
        answer = await http.get(path, headers=as_customer())

    passing = dict.fromkeys(("date", "x-correlation-id", "content-length"))
    for head in heads:
        assert (head.status_code, head.content) == (answer.status_code, b"")
        assert {**head.headers, **passing} == {**answer.headers, **passing}


async def test_head_is_refused_where_get_has_no_end_and_where_there_is_none(door: Door):
    for path, allowed in ((f"/v1/orders/{ORDER_ID}/events", "GET"), (f"/v1/orders/{ORDER_ID}/cancellation", "POST")):
        answer = await door.http.head(path, headers=as_customer())

        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
