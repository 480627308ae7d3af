"""What an operator asks of a running platform, and is told."""

import asyncio

import httpx

from pavane.platform import Platform


async def test_a_round_trip_goes_through_log_services_database_and_redis(platform: Platform) -> None:
    headers = {"Authorization": f"Bearer {platform.issuer.operator_token('shop')}"}
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=20, headers=headers) as http:
        answer, *others = await asyncio.gather(*(http.get("/health/deep") for _ in range(5)))

    assert (answer.status_code, answer.json()["status"], answer.json()["missing"]) == (200, "ready", {})
    assert answer.json()["seconds"].keys() == {"redis", "log", "orders, timeline and database"}
    assert all(other.json() == answer.json() for other in others), "one round trip is made for all who ask"
