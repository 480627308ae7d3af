"""A gateway process under thousands of connections that are slow or silent, and bodies without end: others are served.

`FAULTS=all` opens ten thousand (`make faults`, or this file alone).
"""

import asyncio
import contextlib
import os
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.api.conftest import as_customer, eventually, new_key, order
from tests.api.test_process import address_of, resident_kib
from tests.faults.harness import LONG

HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
MIB = 1024 * 1024
LARGE = 100 * MIB
OPENED_AT_ONCE = 200
CUT_OFF_SECONDS = 120.0
#: Files that the gateway keeps for its servers, its log and what it loads.
FILES = 1_024


class Bad(asyncio.Protocol):
    """A connection that never finishes its question. `told`: the status that it was sent away with; 0: none."""

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks
        self._transport: asyncio.BaseTransport | None = None
        self.told = 0
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.say(HEAD)

    def say(self, what: bytes) -> None:
        if self._speaks and isinstance(self._transport, asyncio.Transport) and not self._transport.is_closing():
            self._transport.write(what)

    def data_received(self, data: bytes) -> None:
        self.told = self.told or int(data.split(b" ", 2)[1])

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def gateway(environment: Mapping[str, str], files: int = 0) -> AsyncIterator[tuple[int, str]]:
    """A gateway that is ready: its process and its address. `files`: how many it may have open; 0: as many as we."""
    limit = f"ulimit -n {files}; " if files else ""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'{limit}exec "$0" -m api', sys.executable),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        address = await address_of(process)
        async with httpx.AsyncClient(base_url=address) as http:
            await eventually(lambda: _is_ready(http), 60.0)
        yield process.pid, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/health/ready")).json()["status"] == "ready"


async def crowd(address: str, size: int) -> list[Bad]:
    """So many connections, every second of which says a little; also those that are not answered."""
    url = httpx.URL(address)
    bad: list[Bad] = []
    opening = asyncio.Semaphore(OPENED_AT_ONCE)

    async def come(number: int) -> None:
        async with opening:
            _, one = await asyncio.get_running_loop().create_connection(
                lambda: Bad(speaks=number % 2 == 0), url.host, url.port
            )
            bad.append(one)

    await asyncio.gather(*(come(number) for number in range(size)))
    return bad


async def drip(bad: list[Bad]) -> None:
    """A little more of every head, again and again."""
    while True:
        for one in bad:
            one.say(b"X-a: b\r\n")
        await asyncio.sleep(1.0)


async def send_large(address: str) -> int | None:
    """The answer to a body of 100 MiB; None: the connection was ended before it was read."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(LARGE // MIB):
            yield b" " * MIB

    headers = {**as_customer(idempotency_key=new_key()), "Content-Type": "application/json"}
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            return (await http.post("/v1/orders", content=body(), headers=headers)).status_code
    return None


async def serves(http: httpx.AsyncClient) -> None:
    """An order is taken, and shown."""
    placed = await http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=new_key()))
    assert placed.status_code == 202, placed.text
    shown = await http.get(placed.headers["location"], headers=as_customer())
    assert shown.status_code == 200, shown.text




@pytest.mark.parametrize(
    ("size", "bodies", "most_mib"), [(500, 3, 100), pytest.param(10_000, 20, 600, marks=LONG)], ids=["some", "10,000"]
)
async def test_thousands_of_slow_connections_and_endless_bodies_keep_nobody_from_ordering(
    environment: dict[str, str], size: int, bodies: int, most_mib: int
):
    """Slowloris (R. Hansen, 2009), silence, and bodies of 100 MiB, at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < size + 500:
        pytest.skip(f"{size} connections need more open files than the {hard} that are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, size + 500)), hard))
    async with gateway(environment) as (pid, address), httpx.AsyncClient(base_url=address, timeout=30) as http:
        await serves(http)
        before = resident_kib(pid)
        bad = await crowd(address, size)
        dripping = asyncio.create_task(drip(bad))
        large = asyncio.gather(*(send_large(address) for _ in range(bodies)))
        served = most = 0
        try:
            async with asyncio.timeout(CUT_OFF_SECONDS):
                while not (served and large.done() and all(one.is_over for one in bad)):
                    await serves(http)
                    served += 1
                    most = max(most, resident_kib(pid) - before)
        finally:
            dripping.cancel()
            large.cancel()
            for one in bad:
                one.close()
        told = Counter(one.told for one in bad)

        assert set(await large) <= {413, None}
        # Who goes on sending after the end may see a reset in place of the answer (RFC 9112, 9.6); silence sees it.
        assert told.keys() <= {408, 0} and told[408] >= size / 2, told
        assert most < most_mib * 1024, f"{most / 1024:.0f} MiB more"
        print(f"\n{size} bad connections, {bodies} bodies: {served} orders; {most / 1024:.0f} MiB more")  # noqa: T201


async def test_when_no_file_is_left_for_a_connection_it_is_told_so_and_others_are_served(environment: dict[str, str]):
    async with gateway(environment, FILES) as (_, address), httpx.AsyncClient(base_url=address, timeout=30) as http:
        await serves(http)
        bad = await crowd(address, FILES + 200)
        try:
            await serves(http)
            await eventually(lambda: _some_were_told(bad, 503), 30.0)
        finally:
            for one in bad:
                one.close()

        async def comes_in() -> bool:
            async with httpx.AsyncClient(base_url=address, timeout=30) as other:
                return (await other.get("/health/live")).status_code == 200

        await eventually(comes_in, 30.0)


async def _some_were_told(bad: list[Bad], status: int) -> bool:
    return any(one.told == status for one in bad)
