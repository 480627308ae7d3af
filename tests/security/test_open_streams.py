"""A gateway process with thousands of open streams: each gets its events, others are served, memory is bounded.

`FAULTS=all` opens five thousand (`make faults`, or this file alone). `python -m tests.benchmarks.streams` times them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from tests.api.conftest import as_customer
from tests.api.stories import Teller, new_order
from tests.api.test_process import resident_kib
from tests.benchmarks.streams import Listening
from tests.faults.harness import LONG
from tests.security.test_others_are_served import files_for, gateway, serves
from tests.waiting import eventually

STREAMS_A_CUSTOMER = 100
OPENED_AT_ONCE = 100
PATIENCE_SECONDS = 120.0


class Streams(dict[str, list[Listening]]):
    """The open streams of each customer."""

    @property
    def all(self) -> list[Listening]:
        return [each for of_one in self.values() for each in of_one]


@asynccontextmanager
async def opened(address: str, size: int) -> AsyncIterator[Streams]:
    """So many streams, each of all orders of its customer, until the block ends; also those that are refused."""
    url, loop, turn = httpx.URL(address), asyncio.get_running_loop(), asyncio.Semaphore(OPENED_AT_ONCE)
    transports: list[asyncio.Transport] = []

    async def open_one(bearer: str) -> Listening:
        head = f"GET /v1/orders/events HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: {bearer}\r\n\r\n"
        async with turn:
            transport, stream = await loop.create_connection(lambda: Listening(head.encode(), {}), url.host, url.port)
            transports.append(transport)
            await stream.opened
        return stream

    async def open_all(customer: str) -> list[Listening]:
        bearer = as_customer(customer)["Authorization"]
        return list(await asyncio.gather(*(open_one(bearer) for _ in range(STREAMS_A_CUSTOMER))))

    customers = [f"c-{uuid4().hex[:8]}" for _ in range(size // STREAMS_A_CUSTOMER)]
    try:
        of_each = await asyncio.gather(*(open_all(customer) for customer in customers))
        yield Streams(zip(customers, of_each, strict=True))
    finally:
        for transport in transports:
            transport.abort()


@pytest.mark.parametrize(
    ("size", "most_mib"), [(300, 250), pytest.param(5_000, 1_024, marks=LONG)], ids=["some", "5,000"]
)
async def test_thousands_of_open_streams_each_get_their_events_and_others_are_served(
    environment: dict[str, str], size: int, most_mib: int
):
    files_for(size)
    async with gateway(environment) as (pid, address), httpx.AsyncClient(base_url=address, timeout=30) as http:
        served, most = 0, resident_kib(pid)

        async def meanwhile() -> None:
            nonlocal served, most
            while True:
                await serves(http)
                served += 1
                most = max(most, resident_kib(pid))

        others = asyncio.create_task(meanwhile())
        try:
            async with opened(address, size) as streams:
                assert all(stream.opened.result() for stream in streams.all)
                orders = {customer: [new_order(), new_order()] for customer in streams}
                served_before = served
                for customer, placed in orders.items():
                    for order_id in placed:
                        await Teller(environment, customer).tell(order_id, "OrderPlaced")
                expected = {id(stream): orders[customer] for customer, of_one in streams.items() for stream in of_one}

                def told() -> bool:
                    return all(stream.heard.keys() == set(expected[id(stream)]) for stream in streams.all)

                await eventually(told, PATIENCE_SECONDS, "every stream tells of its customer's orders alone")
                await eventually(lambda: others.done() or served > served_before, PATIENCE_SECONDS)
            # All of them are gone at one stroke.
            gone = served
            await eventually(lambda: others.done() or served > gone + 1, PATIENCE_SECONDS)
        finally:
            others.cancel()
            ended = (await asyncio.gather(others, return_exceptions=True))[0]

    assert isinstance(ended, asyncio.CancelledError), ended
    assert most < most_mib * 1024, f"{most / 1024:.0f} MiB"
    print(f"\n{size} streams: {served} orders meanwhile; {most / 1024:.0f} MiB")  # noqa: T201
