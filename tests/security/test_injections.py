"""Whatever is put where a name, a number or a body is expected is refused, or kept as it is, and nothing else happens.

The effects are looked for where they would be: in the answers, in the database, on the log, and in what is logged.
"""

import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.kit import logs
from tests.api.conftest import Door, as_customer, as_operator, new_key, order
from tests.security.injecting import HEADER, LOG, RAW, SHAPES, TEXTS, UNICODE, places

TABLES = ("stories", "entries", "shelves", "tags")
TELLING = ("Traceback", "psycopg", "SELECT", "site-packages", "root:x:0", 'File "', "postgresql://", "redis://")


def is_refused_well(answer: httpx.Response) -> bool:
    """A problem of the caller's, which repeats nothing dangerous and tells nothing of us."""
    return (
        400 <= answer.status_code < 500
        and answer.headers["content-type"] == "application/problem+json"
        and not any(word in answer.text for word in TELLING)
        and not any(name in answer.headers for name in ("set-cookie", "x-pwned"))
    )


@pytest.fixture
async def tables(environment: dict[str, str]) -> AsyncIterator[dict[str, int]]:
    """How many rows there are; at the end there must be as many, in as many tables."""

    async def counted() -> dict[str, int]:
        async with await psycopg.AsyncConnection.connect(environment["PAVANE_DATABASE_TIMELINE"]) as database:
            found = {}
            for name in TABLES:
                cursor = await database.execute(f"SELECT count(*) FROM {name}".encode())
                found[name] = (await cursor.fetchone() or (0,))[0]
            return found

    before = await counted()
    yield before
    assert await counted() == before


@pytest.mark.parametrize("text", TEXTS, ids=[ascii(text)[:30] for text in TEXTS])
async def test_a_name_that_is_none_reaches_no_database(shop: httpx.AsyncClient, tables: dict[str, int], text: str):
    assert tables.keys() == set(TABLES)
    written = quote(text, safe="")
    for path in (f"/v1/orders/{written}", f"/v1/stock/{written}", f"/v1/prices/{written}", f"/v1/{written}"):
        answer = await shop.get(path, headers=as_customer())

        assert is_refused_well(answer), (path, answer.status_code, answer.text)
    for path, body in ((f"/v1/stock/{written}/receipts", {"quantity": 1}), (f"/v1/orders/{written}/cancellation", {})):
        answer = await shop.post(path, json=body, headers=as_operator(idempotency_key=new_key()))

        assert is_refused_well(answer), (path, answer.status_code, answer.text)


@pytest.mark.parametrize("text", TEXTS, ids=[ascii(text)[:30] for text in TEXTS])
async def test_text_in_a_query_or_a_header_changes_nothing(shop: httpx.AsyncClient, text: str):
    headers: Any = {**as_customer(), "X-Correlation-Id": quote(text, safe=" '\"{}$()|;").encode(), "User-Agent": "x"}
    plain = await shop.get("/v1/stock/none-of-these", headers=as_customer())

    answer = await shop.get("/v1/stock/none-of-these", params={"q": text, "tenant": text}, headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (plain.status_code, plain.json()["type"])
    assert is_refused_well(answer)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """The lines that are written since, as the gateway's process writes them."""
    usual, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    errors = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", errors)
        logs.set_up("gateway")
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield lambda: [line for line in errors.getvalue().split("\n") if line]
    finally:
        structlog.configure(**usual)
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.mark.parametrize("text", [*HEADER, *LOG, *UNICODE], ids=ascii)
async def test_what_is_logged_of_a_caller_stays_one_line(door: Door, text: str, written: Callable[[], list[str]]):
    door.log.refuses_with = ZeroDivisionError(text)
    body = order(payment_method="card-ok")
    await door.http.post("/v1/orders", json=body, headers=as_customer(idempotency_key=new_key()))

    lines = written()
    assert all(line.isprintable() and line.isascii() for line in lines)
    [unexpected] = [said for said in map(json.loads, lines) if said["event"] == "unexpected"]
    assert f"ZeroDivisionError: {text}" in unexpected["exception"]
    assert all(json.loads(line)["event"] != "forged" for line in lines)


@pytest.mark.parametrize("text", [*UNICODE, "", " ", "\t", "a\nb", "x" * 201], ids=ascii)
async def test_text_that_no_parcel_has_on_it_is_refused(door: Door, text: str):
    for field in ("recipient", "street", "postal_code", "city", "country"):
        body = order(ship_to={**order()["ship_to"], field: text})
        answer = await door.http.post("/v1/orders", json=body, headers=as_customer(idempotency_key=new_key()))

        assert answer.status_code == 422, (field, answer.text)
        assert answer.json()["errors"][0]["pointer"] == f"#/ship_to/{field}"
    assert not door.log.requests


async def test_text_that_is_only_unusual_is_kept_as_it_is(door: Door):
    """O'Brien is no injection, and what looks like SQL is a name of a street that nobody runs."""
    for street in ("O'Brien St 1", "'; DROP TABLE stories; --", "<b>5</b>", "{{7*7}} Rd", "Straße", "نیم‌فاصله"):
        body = order(ship_to={**order()["ship_to"], "street": street})
        answer = await door.http.post("/v1/orders", json=body, headers=as_customer(idempotency_key=new_key()))

        assert answer.status_code == 202, answer.text
        assert door.keys.reveal("street", door.log.last.ship_to.street) == street


async def test_one_name_in_two_unicode_forms_is_one_name(door: Door):
    kept = []
    for city in ("Z\u00fcrich", "Zu\u0308rich"):
        body = order(ship_to={**order()["ship_to"], "city": city})
        await door.http.post("/v1/orders", json=body, headers=as_customer(idempotency_key=new_key()))
        kept.append(door.keys.reveal("city", door.log.last.ship_to.city))

    assert kept == ["Z\u00fcrich", "Z\u00fcrich"]


async def test_bodies_of_every_shape_are_refused_unless_they_are_orders(door: Door):
    for value in [*SHAPES, *TEXTS]:
        for body in places(order(), value):
            before = len(door.log.requests)
            headers = as_customer(idempotency_key=new_key())
            answer = await door.http.post("/v1/orders", content=json.dumps(body).encode(), headers=headers | JSON)

            if answer.status_code == 202:
                assert value in TEXTS or value in ("text", 1, True), body
                assert len(door.log.requests) == before + 1
            else:
                assert is_refused_well(answer), (body, answer.text)
                assert len(door.log.requests) == before


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("raw", RAW, ids=[ascii(raw)[:24] for raw in RAW])
async def test_bytes_that_are_no_order_break_nothing(door: Door, raw: bytes):
    with capture_logs() as logged:
        answer = await door.http.post("/v1/orders", content=raw, headers=as_customer(idempotency_key=new_key()) | JSON)

    assert is_refused_well(answer), answer.text
    assert not [line for line in logged if line["event"] == "unexpected"]
    assert not door.log.requests


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@seed(7)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON_VALUES, data=st.data())
async def test_json_of_any_shape_in_any_place_is_refused_or_an_order(door: Door, value: Any, data: st.DataObject):
    body = data.draw(st.sampled_from(places(order(), value)))
    try:
        content = json.dumps(body).encode()
    except UnicodeEncodeError:
        return
    answer = await door.http.post("/v1/orders", content=content, headers=as_customer(idempotency_key=new_key()) | JSON)

    assert answer.status_code == 202 or is_refused_well(answer), (body, answer.text)
