"""An order is followed: by asking again only for what is new, by waiting for it, and page by page."""

import asyncio
import time
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from api.answers import Order
from api.conditions import cursor_of, matches, read_cursor, wait_of
from api.errors import InvalidRequest, Unavailable
from api.timeline import _SPEAKERS, Heads
from streams.timeline import service as timeline
from tests.api.conftest import Door, as_customer
from tests.api.stories import Teller, new_order
from tests.waiting import eventually

SOON = 15.0


@pytest.fixture
def teller(environment: dict[str, str]) -> Teller:
    return Teller(environment, customer=f"c-{uuid4().hex[:8]}")


async def test_what_is_due_next_is_shown_with_from_whom_and_until_when(shop: httpx.AsyncClient, teller: Teller):
    order_id = new_order()
    await teller.tell(order_id, "OrderPlaced", deadline="2026-01-01T12:15:00Z")
    await teller.tell(order_id, "InvoiceOpened", "ShipmentPlanned")

    shown = (await shop.get(f"/v1/orders/{order_id}", headers=as_customer(teller.customer))).json()

    [due] = shown["due"]
    assert (due["speaker"], due["facts"]) == ("inventory", ["StockReserved", "StockRejected"])
    assert due["since"] == shown["story"][0]["at"]
    assert due["by"] == "2026-01-01T12:15:00Z"


async def test_an_order_that_has_not_changed_is_not_sent_again(shop: httpx.AsyncClient, teller: Teller):
    order_id = new_order()
    await teller.tell(order_id, "OrderPlaced")
    mine = as_customer(teller.customer)
    first = await shop.get(f"/v1/orders/{order_id}", headers=mine)
    known = {**mine, "If-None-Match": first.headers["etag"]}

    same = await shop.get(f"/v1/orders/{order_id}", headers=known)
    await teller.tell(order_id, "StockReserved")
    changed: list[httpx.Response] = []

    async def is_sent() -> bool:
        changed.append(await shop.get(f"/v1/orders/{order_id}", headers=known))
        return changed[-1].status_code == 200

    await eventually(is_sent)

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    assert changed[-1].headers["etag"] != first.headers["etag"]
    assert changed[-1].headers["cache-control"] == "private, no-cache"


async def test_a_header_in_several_lines_is_one_list(door: Door):
    order_id = new_order()
    customer = door.keys.of_person("shop", "c7").protect("customer", "c7")
    door.timeline.orders[order_id, "shop", customer] = Order(order_id=order_id, status="placed", stage="placed")
    mine = list(as_customer().items())
    first = await door.http.get(f"/v1/orders/{order_id}", headers=mine)

    lines = [("If-None-Match", '"another"'), ("If-None-Match", first.headers["etag"])]
    same = await door.http.get(f"/v1/orders/{order_id}", headers=[*mine, *lines])
    wish = [("Prefer", "respond-async"), ("Prefer", "wait=1")]
    waited = await door.http.get(f"/v1/orders/{order_id}", headers=[*mine, *wish])

    assert (same.status_code, same.content) == (304, b"")
    assert waited.headers["preference-applied"] == "wait=1"


async def test_an_answer_waits_for_a_change_and_comes_with_it(shop: httpx.AsyncClient, teller: Teller):
    order_id = new_order()
    await teller.tell(order_id, "OrderPlaced")
    mine = {**as_customer(teller.customer), "Prefer": "wait=20"}
    asked = asyncio.create_task(shop.get(f"/v1/orders/{order_id}", headers=mine, timeout=30))
    await eventually(lambda: _listeners(shop, 1), SOON, "the request waits")
    assert not asked.done()

    await teller.tell(order_id, "StockReserved")
    answer = await asked

    assert [entry["fact"] for entry in answer.json()["story"]] == ["OrderPlaced", "StockReserved"]
    assert answer.headers["preference-applied"] == "wait=20"
    assert await _listeners(shop, 0)


async def test_a_wait_ends_with_its_time_and_says_that_nothing_changed(shop: httpx.AsyncClient, teller: Teller):
    order_id = new_order()
    await teller.tell(order_id, "OrderPlaced")
    mine = as_customer(teller.customer)
    first = await shop.get(f"/v1/orders/{order_id}", headers=mine)
    began = time.monotonic()

    known = {**mine, "Prefer": "wait=1", "If-None-Match": first.headers["etag"]}
    answer = await shop.get(f"/v1/orders/{order_id}", headers=known)

    assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=1")
    assert time.monotonic() - began >= 0.9


@pytest.mark.parametrize("is_over", [True, False])
async def test_nobody_waits_for_an_order_that_is_over_or_that_has_changed_already(
    shop: httpx.AsyncClient, teller: Teller, is_over: bool
):
    order_id = new_order()
    await (teller.saga(order_id) if is_over else teller.tell(order_id, "OrderPlaced"))
    known = {} if is_over else {"If-None-Match": '"another"'}

    async with asyncio.timeout(10):
        answer = await shop.get(
            f"/v1/orders/{order_id}", headers={**as_customer(teller.customer), "Prefer": "wait=20", **known}
        )

    assert answer.status_code == 200
    assert answer.json()["due"] == ([] if is_over else answer.json()["due"])


async def test_a_wait_for_somebody_elses_order_is_refused_at_once_and_leaves_nobody_listening(
    shop: httpx.AsyncClient, teller: Teller
):
    order_id = new_order()
    await teller.tell(order_id, "OrderPlaced")

    answer = await shop.get(f"/v1/orders/{order_id}", headers={**as_customer("another"), "Prefer": "wait=20"})

    assert answer.status_code == 404
    assert await _listeners(shop, 0)


async def test_when_too_many_wait_the_answer_comes_at_once_and_says_so(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.feed.MOST_LISTENERS", 0)

    await _is_shown_at_once(door)


async def test_what_can_be_shown_is_shown_also_when_nothing_new_can_be_waited_for(
    door: Door, monkeypatch: pytest.MonkeyPatch
):
    async def heads() -> Heads:
        raise Unavailable("the timeline is away")

    monkeypatch.setattr(door.timeline, "heads", heads)

    await _is_shown_at_once(door)


async def _is_shown_at_once(door: Door) -> None:
    """An order is, though its reader asks to wait for a change, and it is not said that anybody waited."""
    order_id = new_order()
    customer = door.keys.of_person("shop", "c7").protect("customer", "c7")
    door.timeline.orders[order_id, "shop", customer] = Order(order_id=order_id, status="placed", stage="placed")

    answer = await door.http.get(f"/v1/orders/{order_id}", headers=as_customer(prefer="wait=20"))

    assert answer.status_code == 200
    assert "preference-applied" not in answer.headers


async def test_one_customer_does_not_wait_in_all_places(door: Door, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.feed.MOST_WAITING_OF_ONE", 2)
    feed = door.app._app._app.state.gateway.feed
    ended = asyncio.Event()

    async def change() -> None:
        await ended.wait()

    mine, others = await feed.listen("shop", "c7"), await feed.listen("shop", "c8")
    waiting = [asyncio.create_task(feed.waited(mine, 20, change())) for _ in range(2)]
    await eventually(lambda: feed._waiting.total() == 2)

    assert await feed.waited(mine, 20, change()) is False
    waiting.append(asyncio.create_task(feed.waited(others, 20, change())))
    await eventually(lambda: feed._waiting.total() == 3)
    ended.set()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not feed._waiting


async def test_orders_are_listed_newest_first_page_by_page_each_once_though_others_are_placed_meanwhile(
    shop: httpx.AsyncClient, teller: Teller
):
    placed = [new_order() for _ in range(5)]
    for order_id in placed:
        await teller.tell(order_id, "OrderPlaced")
    stranger = Teller(teller.environment, customer="another")
    await stranger.tell(new_order(), "OrderPlaced")
    mine = as_customer(teller.customer)

    listed: list[str] = []
    address: str | None = "/v1/orders?limit=2"
    pages = 0
    while address:
        answer = await shop.get(address, headers=mine)
        page = answer.json()
        assert answer.headers.get("link", "").startswith(f"<{page['next']}>") is (page["next"] is not None)
        listed += [order["order_id"] for order in page["orders"]]
        address, pages = page["next"], pages + 1
        await teller.tell(new_order(), "OrderPlaced")

    assert listed == placed[::-1]
    assert pages == 3


async def test_a_page_shows_how_its_orders_stand_and_a_customer_without_orders_has_an_empty_one(
    shop: httpx.AsyncClient, teller: Teller
):
    order_id = new_order()
    await teller.saga(order_id)

    [summary] = (await shop.get("/v1/orders", headers=as_customer(teller.customer))).json()["orders"]
    nothing = (await shop.get("/v1/orders", headers=as_customer("nobody"))).json()

    assert (summary["order_id"], summary["status"], summary["total_minor"]) == (order_id, "confirmed", 1200)
    assert nothing == {"orders": [], "next": None}


@pytest.mark.parametrize(
    "query", ["cursor=x", "cursor=%00", "cursor=" + "A" * 101, "limit=0", "limit=101", "limit=a", "cursor=OTk5OS9h"]
)
async def test_a_cursor_or_limit_that_is_none_is_pointed_at(door: Door, query: str):
    answer = await door.http.get(f"/v1/orders?{query}", headers=as_customer())

    assert (answer.status_code, answer.json()["type"].rpartition(":")[2].rpartition("/")[2]) == (422, "invalid-request")
    assert answer.json()["errors"][0]["parameter"] == f"query/{query.partition('=')[0]}"


def test_a_cursor_holds_the_place_to_the_microsecond():
    place = (datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC), new_order())
    assert read_cursor(cursor_of(*place)) == place
    with pytest.raises(InvalidRequest):
        read_cursor("é")


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ('wait="7"', 7),
        ("Wait = 3; foo", 3),
        ("wait=999999", 20),
        ("await=5", None),
        ("wait=-1", None),
        ("wait=", None),
        (None, None),
    ],
)
def test_a_wish_to_wait_is_read_as_the_rfc_writes_it(prefer: str | None, seconds: int | None):
    assert wait_of(prefer) == seconds


@pytest.mark.parametrize(
    ("given", "is_known"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False), (None, False)],
)
def test_entity_tags_are_compared_weakly(given: str | None, is_known: bool):
    assert matches(given, '"a"') is is_known


def test_the_gateway_knows_whom_the_timeline_hears():
    assert sorted(_SPEAKERS) == sorted(timeline.topics)


async def _listeners(shop: httpx.AsyncClient, count: int) -> bool:
    return f"pavane_gateway_listeners {count}.0" in (await shop.get("/metrics")).text
