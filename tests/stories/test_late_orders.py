"""What a shop's operators are told of orders that wait: for whom, why, and what helps."""

from typing import Any

import httpx

from pavane.platform import Platform
from streams.kit.testing import Shop
from tests.waiting import eventually

NAMED_SECONDS = 60.0


async def overdue(http: httpx.AsyncClient, platform: Platform, tenant: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {platform.issuer.operator_token(tenant)}"}
    found: list[dict[str, Any]] = (await http.get("/v1/overdue", headers=headers)).json()["orders"]
    return found


async def test_a_shop_is_told_why_its_order_is_late_and_what_helps_and_no_other_shop_is(
    platform: Platform, shop: Shop
) -> None:
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 1)
    for each in platform.children["shipping"]:
        if each.is_running:
            each.kill()
            await each.child.wait(10)
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=20) as http:
        try:
            order = await shop.place(sku="lamp")

            async def named() -> dict[str, Any] | None:
                late = await overdue(http, platform, shop.tenant)
                return next((each for each in late if "no process of shipping holds" in str(each["reason"])), None)

            late = await eventually(named, NAMED_SECONDS, "it is told that shipping is away")
            assert (late["order_id"], late["speaker"], late["remedy"]) == (order.id, "shipping", "pavane run shipping")
            assert await overdue(http, platform, "rival") == []
        finally:
            await platform.start("shipping")
        assert await shop.status(order) == "confirmed"
