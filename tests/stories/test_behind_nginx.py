"""Two gateways behind nginx, as `infra/nginx/pavane.conf` tells operators to set it up: everything still holds.

Clients come from addresses of their own (127.0.0.x), so that the proxy has somebody to speak for.
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from infra.server import free_ports
from pavane.platform import Platform
from streams.kit.testing import Shop
from tests.api.conftest import order
from tests.api.test_process import PATIENT, address_of
from tests.nginx import nginx, process
from tests.waiting import eventually

USER_UNITS, ADDRESS_UNITS, WRITE_COST = 100, 200, 5
#: As many units at once, and next to none of them again while the test runs.
LIMITS = {
    "PAVANE_LIMIT_BURST_SECONDS": "3600",
    "PAVANE_LIMIT_USER": str(USER_UNITS / 3600),
    "PAVANE_LIMIT_ADDRESS": str(ADDRESS_UNITS / 3600),
    "PAVANE_LIMIT_TENANT": "0",
}
BETWEEN_TRIES_SECONDS = 4.0


class Front(NamedTuple):
    """nginx, and what stands behind it."""

    url: str
    folder: Path
    gateways: list[asyncio.subprocess.Process]
    addresses: list[str]

    @property
    def asked(self) -> Counter[str]:
        """How many requests each gateway was given; of those that two were asked, the last one."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return Counter(line.rpartition(", ")[2] for line in lines)

    def from_address(self, last: int) -> httpx.AsyncClient:
        """A client at 127.0.0.`last`."""
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{last}", limits=httpx.Limits(max_connections=16))
        return httpx.AsyncClient(base_url=self.url, transport=transport, timeout=60)


@pytest.fixture(scope="module")
async def front(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Front]:
    folder, port = tmp_path_factory.mktemp("nginx"), free_ports(1)[0]
    environment = {
        **platform.stack.addresses.environment(),
        **LIMITS,
        "PAVANE_JWKS": platform.issuer.jwks_url,
        "PAVANE_TRUSTED_PROXIES": "127.0.0.1",
    }
    async with AsyncExitStack() as opened:
        words = (sys.executable, "-c", PATIENT)
        gateways = [await opened.enter_async_context(process(*words, environment=environment)) for _ in range(2)]
        addresses = [urlsplit(await address_of(each)).netloc for each in gateways]
        url = await opened.enter_async_context(nginx(folder, addresses, port))
        for address in [*addresses, f"127.0.0.1:{port}"]:
            await eventually(lambda at=address: _is_ready(at), 60.0, f"{address} is ready")
        yield Front(url, folder, gateways, addresses)


async def _is_ready(address: str) -> bool:
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as http:
        try:
            return (await http.get("/health/ready")).json()["status"] == "ready"
        except (httpx.TransportError, ValueError):
            return False


def bearer(shop: Shop, platform: Platform, customer: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {platform.issuer.token(shop.tenant, customer)}"}


async def statuses(http: httpx.AsyncClient, path: str, each: list[dict[str, str]]) -> Counter[int]:
    answers = await asyncio.gather(*(http.get(path, headers=headers) for headers in each))
    return Counter(answer.status_code for answer in answers)


async def test_a_users_limit_is_one_for_both_gateways(front: Front, platform: Platform, shop: Shop):
    before = front.asked
    async with front.from_address(2) as http:
        found = await statuses(http, "/v1/stock/nothing", [bearer(shop, platform, "ada")] * (USER_UNITS + 40))

    # A unit comes back in 36 seconds.
    assert 0 <= found[404] - USER_UNITS <= 3, found
    assert found[404] + found[429] == USER_UNITS + 40
    assert all((front.asked - before)[address] > 10 for address in front.addresses), front.asked


async def test_limits_are_those_of_the_address_that_the_proxy_saw_whatever_the_caller_says(
    front: Front, platform: Platform, shop: Shop
):
    tries = ADDRESS_UNITS + 40
    said = [
        {**bearer(shop, platform, f"c-{number // 80}"), "X-Forwarded-For": f"192.0.2.{number % 250}, 127.0.0.1"}
        for number in range(tries)
    ]
    async with front.from_address(3) as http, front.from_address(4) as other:
        found = await statuses(http, "/v1/stock/nothing", said)
        elsewhere = await other.get("/v1/stock/nothing", headers=bearer(shop, platform, "somebody"))

    assert 0 <= found[404] - ADDRESS_UNITS <= 20, found
    assert found[404] + found[429] == tries
    assert elsewhere.status_code == 404


async def test_one_key_is_one_order_whichever_gateway_is_asked(front: Front, platform: Platform, shop: Shop):
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 100)
    headers = {**bearer(shop, platform, "bob"), "Idempotency-Key": f'"{uuid4()}"'}
    async with front.from_address(5) as http:

        async def place() -> httpx.Response:
            return await http.post("/v1/orders", json=order(), headers=headers)

        answers = await asyncio.gather(*(place() for _ in range(USER_UNITS // WRITE_COST - 2)))
        again = await place()

    taken = [answer for answer in answers if answer.status_code == 202]
    assert Counter(answer.status_code for answer in answers).keys() <= {202, 409}
    assert len({answer.json()["order_id"] for answer in [*taken, again]}) == 1
    assert again.headers["idempotency-replayed"] == "true"
    assert len([answer for answer in taken if "idempotency-replayed" not in answer.headers]) <= 1


async def test_a_stream_comes_through_as_it_happens(front: Front, platform: Platform, shop: Shop):
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 100)
    headers = bearer(shop, platform, "eve")
    async with (
        front.from_address(6) as http,
        http.stream("GET", "/v1/orders/events", headers=headers) as stream,
        asyncio.timeout(60),
    ):
        lines = stream.aiter_lines()
        # Only when this has come through is anything ordered: nothing waits for a buffer to be full.
        assert await anext(lines) == "retry: 1000"
        for _ in range(2):
            placed = await http.post("/v1/orders", json=order(), headers={**headers, "Idempotency-Key": uuid4().hex})
            told = [await _fact_of(lines, placed.json()["order_id"]) for _ in range(3)]
            assert told[0] == "OrderPlaced"


async def _fact_of(lines: AsyncIterator[str], order_id: str) -> str:
    async for line in lines:
        if line.startswith("data: ") and (data := json.loads(line[6:]))["order_id"] == order_id:
            return str(data["fact"])
    raise AssertionError("the stream ended")


async def test_a_gateway_that_dies_is_noticed_by_nobody_and_without_any_it_is_told(
    front: Front, platform: Platform, shop: Shop
):
    """Last in this file: afterwards no gateway is left."""
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 100)
    async with front.from_address(8) as http, front.from_address(9) as later:

        async def place(number: int, by: httpx.AsyncClient = http) -> httpx.Response:
            headers = {**bearer(shop, platform, f"p-{number}"), "Idempotency-Key": f"k-{number}"}
            while True:
                # An answer that had begun is cut off with its gateway: its caller asks again, under the same key.
                with contextlib.suppress(httpx.RemoteProtocolError):
                    return await by.post("/v1/orders", json=order(), headers=headers)

        placing = [asyncio.create_task(place(number)) for number in range(20)]
        await asyncio.wait(placing, return_when=asyncio.FIRST_COMPLETED)
        front.gateways[0].kill()
        await front.gateways[0].wait()
        answers = [await each for each in placing] + [await place(number) for number in range(20, 30)]
        # The gateway that died had begun with some of the keys: they are free again after 10 seconds.
        for number in range(len(answers)):
            while answers[number].status_code == 409:
                await asyncio.sleep(BETWEEN_TRIES_SECONDS)
                answers[number] = await place(number, by=later)
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["order_id"] for answer in answers}) == len(answers)

        front.gateways[1].kill()
        await front.gateways[1].wait()
        away = await place(99)

    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert away.json()["type"] == "/problems/unavailable"
