"""What an operator does about dead letters over HTTP: of their own tenant alone, and it is kept who did it."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.events import CancelOrder
from api.idempotency import name_of
from api.log import RequestLog
from infra.stack import Stack
from pavane.instance import DESK
from pavane.platform import Platform
from streams.kit.codec import Codec
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry
from streams.kit.testing import Shop
from tests.waiting import eventually


class Operator:
    """Asks the gateway as an operator of a tenant."""

    def __init__(self, http: httpx.AsyncClient, platform: Platform, tenant: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {platform.issuer.operator_token(tenant)}"}

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(path, headers=self._headers)

    async def redrive(self, path: str) -> httpx.Response:
        return await self._http.post(f"{path}/redrive", json={"why": "it is there now"}, headers=self._headers)

    async def waiting(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/v1/dead-letters?service=orders")).json()["dead_letters"]
        return found


@pytest.fixture
async def http(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=20) as http:
        yield http


async def cancel_over_the_log(stack: Stack, tenant: str, order_id: str) -> None:
    """Somebody's producer calls off an order that there is not yet: it is refused, and put aside."""
    registry = ConfluentRegistry(stack.addresses.registry_url)

    async def codec() -> Codec:
        return Codec(Language.load(), registry)

    log = RequestLog(stack.addresses.kafka_bootstrap, codec, patience_seconds=30)
    log.start()
    try:
        request = CancelOrder(tenant=tenant, order_id=order_id, asked_by="customer-1")
        await log.append(request, "early", None)
    finally:
        await log.close()


async def test_an_operator_sees_and_redrives_what_is_of_their_tenant_and_nobody_else_does(
    platform: Platform, shop: Shop, stack: Stack, http: httpx.AsyncClient
) -> None:
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 1)
    key = uuid4().hex
    order_id = name_of(shop.tenant, key)
    await cancel_over_the_log(stack, shop.tenant, order_id)
    mine, other = Operator(http, platform, shop.tenant), Operator(http, platform, "rival")

    [letter] = await eventually(mine.waiting, 30, "the request is put aside")
    at = f"/v1/dead-letters/{letter['id']}"

    assert (letter["event"], letter["reason"], letter["key"]) == ("CancelOrder", "Refused", order_id)
    assert order_id not in (await other.get("/v1/dead-letters")).text
    refused = [await other.get(at), await other.redrive(at), await mine.get("/v1/dead-letters/nobody/0/1")]
    assert [answer.json()["type"] for answer in refused] == ["/problems/no-such-dead-letter"] * 3
    customer = {"Authorization": f"Bearer {platform.issuer.token(shop.tenant, 'customer-1')}"}
    assert (await http.get(at, headers=customer)).status_code == 403

    async def ended(operation: int) -> dict[str, Any] | None:
        shown = (await mine.get(at)).json()
        done: list[dict[str, Any]] = [each for each in shown["operations"] if each["ended_at"]]
        return shown if len(done) == operation else None

    begun = await mine.redrive(at)
    assert (begun.status_code, begun.headers["location"]) == (202, at)
    shown = await eventually(lambda: ended(1), 60, "it was tried")
    assert shown["operations"][0]["outcome"] == "0 handled, 1 left"
    assert shown["dead_letter"]["attempts"] == 2

    order = await shop.place(sku="lamp", key=key)
    await shop.settled(order)
    assert (await mine.redrive(at)).status_code == 202
    shown = await eventually(lambda: ended(2), 60, "it was tried again")
    assert (shown["dead_letter"], shown["operations"][0]["outcome"]) == (None, "1 handled, 0 left")
    assert shown["operations"][0]["who"] == f"{shop.tenant}/operator"
    assert shown["operations"][0]["why"] == "it is there now"

    async def refused_too_late() -> bool:
        return "CancellationRefused" in (await shop.settled(order)).facts

    await eventually(refused_too_late, 30, "the story tells that it was too late")
    assert (await other.get(at)).status_code == 404


async def test_without_the_desk_only_dead_letters_cannot_be_asked_for(
    platform: Platform, shop: Shop, http: httpx.AsyncClient
) -> None:
    operator = Operator(http, platform, shop.tenant)
    desk = platform.children[DESK][-1]
    desk.kill()
    await desk.child.wait(10)
    try:
        away = await operator.get("/v1/dead-letters")
        assert (away.status_code, away.json()["type"]) == (503, "/problems/unavailable")
        assert away.headers["retry-after"]
        assert (await http.get("/health/ready")).json()["status"] == "ready"
        assert (await operator.get("/v1/overdue")).json() == {"orders": []}
        await shop.price("lamp", 1999)
    finally:
        await platform.start(DESK)

    assert (await operator.get("/v1/dead-letters")).json() == {"dead_letters": [], "more": False, "unreadable": []}
