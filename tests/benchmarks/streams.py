"""How many streams one gateway holds open, in how much memory, and what others notice of it.

    python -m tests.benchmarks.streams --streams 5000

On an embedded stack with the whole platform: first the answers to GET are timed without streams, then again with all of
them open, and then orders are placed for customers who listen, and it is timed how long after the gateway's 202 the
order's first event is on its stream. Client and platform share the machine. It fails when a stream was not opened, or
an event did not come.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil

from infra.stack import Stack
from pavane.platform import Platform
from streams.kit.shop import Shop, order_body
from tests.waiting import eventually

STREAMS_A_CUSTOMER = 10
OPENING_AT_ONCE = 100
ASKED = 300
ORDERS = 100
PATIENCE_SECONDS = 60.0


class Listening(asyncio.Protocol):
    """One stream: `opened` once it is answered, with whether it is open; each event's order id and the time it came
    go to `heard`."""

    def __init__(self, request: bytes, heard: dict[str, float]) -> None:
        self._request = request
        self.heard = heard
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self.opened.set_result(data.startswith(b"HTTP/1.1 200"))
        for piece in data.split(b'"order_id":"')[1:]:
            self.heard.setdefault(piece[:36].decode(), time.monotonic())

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(False)


async def main(streams: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with Stack(Path(folder)) as stack, Platform(stack) as platform:
            return await _measured(platform, streams)


async def _measured(platform: Platform, streams: int) -> int:
    gateway = psutil.Process(platform.children["gateway"][-1].pid)
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=30) as http:
        shop = Shop(http, platform.issuer, f"shop-{uuid4().hex[:8]}", PATIENCE_SECONDS)
        await shop.price("lamp", 500)
        await shop.receive("lamp", 100_000)
        _say("before", gateway, await _timed(lambda: shop.ask("GET", "/v1/prices/lamp"), ASKED))
        heard: dict[str, float] = {}
        began = time.monotonic()
        opened = await _opened(platform, shop, streams, heard)
        print(f"{opened:,} of {streams:,} streams open after {time.monotonic() - began:.1f} s")  # noqa: T201
        _say("all open", gateway, await _timed(lambda: shop.ask("GET", "/v1/prices/lamp"), ASKED))
        cpu, began = sum(gateway.cpu_times()[:2]), time.monotonic()
        await asyncio.sleep(10)
        share = (sum(gateway.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
        print(f"idle with all open: {share:.0%} of one core")  # noqa: T201
        came = await _told(shop, streams, heard)
        _say(f"{len(came)} of {ORDERS} orders told, from 202 to their first event", gateway, came)
        return 0 if (opened, len(came)) == (streams, ORDERS) else 1


async def _opened(platform: Platform, shop: Shop, streams: int, heard: dict[str, float]) -> int:
    at = urlsplit(platform.gateway_url)
    turn = asyncio.Semaphore(OPENING_AT_ONCE)
    tokens = {
        customer: platform.issuer.token(shop.tenant, f"c{customer}")
        for customer in range(-(-streams // STREAMS_A_CUSTOMER))
    }

    async def open_one(number: int) -> bool:
        head = f"GET /v1/orders/events HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer "
        request = f"{head}{tokens[number // STREAMS_A_CUSTOMER]}\r\n\r\n".encode()
        async with turn:
            loop = asyncio.get_running_loop()
            _, listening = await loop.create_connection(lambda: Listening(request, heard), at.hostname, at.port)
            return await listening.opened

    return sum(await asyncio.gather(*(open_one(number) for number in range(streams))))


async def _told(shop: Shop, streams: int, heard: dict[str, float]) -> list[float]:
    """From the 202 of an order to its first event, for orders of customers who listen."""
    customers = -(-streams // STREAMS_A_CUSTOMER)
    accepted: dict[str, float] = {}
    for number in range(ORDERS):
        body = order_body([("lamp", 1)], "card-ok", "DE", "EUR")
        customer = f"c{number * 7 % customers}"
        answer = await shop.ask("POST", "/v1/orders", customer=customer, key=uuid4().hex, body=body)
        accepted[answer.json()["order_id"]] = time.monotonic()
        await asyncio.sleep(0.02)
    await eventually(lambda: accepted.keys() <= heard.keys(), PATIENCE_SECONDS, "every order is told")
    return [heard[order] - at for order, at in accepted.items() if order in heard]


async def _timed(ask: Callable[[], Awaitable[httpx.Response]], times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        began = time.monotonic()
        (await ask()).raise_for_status()
        seconds.append(time.monotonic() - began)
    return seconds


def _say(what: str, gateway: psutil.Process, seconds: list[float]) -> None:
    hundredths = statistics.quantiles(seconds, n=100)
    mebibytes = gateway.memory_info().rss / 1024**2
    print(  # noqa: T201
        f"{what}: p50 {hundredths[49] * 1000:.1f} ms, p99 {hundredths[98] * 1000:.1f} ms; "
        f"gateway {mebibytes:,.0f} MiB resident"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=5_000)
    sys.exit(asyncio.run(main(parser.parse_args().streams)))
