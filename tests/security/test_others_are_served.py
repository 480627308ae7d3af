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
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from infra.server import free_ports
from tests.api.conftest import as_customer, eventually, new_key, order
from tests.api.test_process import PATIENT, address_of, resident_kib
from tests.faults.harness import LONG
from tests.nginx import MOST_OF_AN_ADDRESS, nginx

HEAD, MORE_HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\n", b"X-a: b\r\n"
SLOW_BODY, MORE_BODY = b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", b" "
MIB = 1024 * 1024
LARGE = 100 * MIB
OPENED_AT_ONCE = 200
CUT_OFF_SECONDS = 120.0
#: Connections of nginx for those who mean well.
SPARE = 1_000
#: Those that nginx keeps, and those to servers.
MOST_OF_A_GATEWAY = 150
#: Files that the gateway keeps for its servers, its log and what it loads.
FILES = 1_024


class Bad(asyncio.Protocol):
    """A connection that never finishes its question, which it begins and goes on with now and then; both empty: it is
    silent. `told`: the status that it was sent away with; 0: none."""

    def __init__(self, begins: bytes = b"", goes_on: bytes = b"") -> None:
        self._begins = begins
        self._goes_on = goes_on
        self._transport: asyncio.BaseTransport | None = None
        self.told = 0
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._say(self._begins)

    def go_on(self) -> None:
        self._say(self._goes_on)

    def _say(self, what: bytes) -> None:
        if what and isinstance(self._transport, asyncio.Transport) and not self._transport.is_closing():
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
        *("sh", "-c", f'{limit}exec "$0" -c "$1"', sys.executable, PATIENT),
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
    return await come(address, [Bad(HEAD, MORE_HEAD) if number % 2 == 0 else Bad() for number in range(size)])


async def come(address: str, bad: list[Bad]) -> list[Bad]:
    """All of them, connected."""
    url = httpx.URL(address)
    opening = asyncio.Semaphore(OPENED_AT_ONCE)

    async def connect(one: Bad) -> None:
        async with opening:
            await asyncio.get_running_loop().create_connection(lambda: one, url.host, url.port)

    await asyncio.gather(*map(connect, bad))
    return bad


async def drip(bad: list[Bad]) -> None:
    """A little more of everything, again and again."""
    while True:
        for one in bad:
            one.go_on()
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


def files_for(size: int) -> None:
    """Let this process have so many connections, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < size + 500:
        pytest.skip(f"{size} connections need more open files than the {hard} that are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, size + 500)), hard))


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
    files_for(size)
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


@pytest.mark.parametrize(("size", "bodies"), [(400, 2), pytest.param(10_000, 20, marks=LONG)], ids=["some", "10,000"])
async def test_behind_nginx_nothing_of_that_reaches_a_gateway_and_bodies_that_never_end_neither(
    environment: dict[str, str], tmp_path: Path, size: int, bodies: int
):
    """A quarter of them send bodies byte by byte (R.U.D.Y.): nginx waits for those, and for so many of an address."""
    files_for(size)
    async with AsyncExitStack() as opened:
        gateways = [await opened.enter_async_context(gateway(environment)) for _ in range(2)]
        behind = [httpx.URL(address).netloc.decode() for _, address in gateways]
        address = await opened.enter_async_context(nginx(tmp_path, behind, free_ports(1)[0], size + SPARE))
        from_elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        http = await opened.enter_async_context(
            httpx.AsyncClient(base_url=address, transport=from_elsewhere, timeout=30)
        )
        await serves(http)
        heads = await crowd(address, size - size // 4)
        slow = await come(address, [Bad(SLOW_BODY, MORE_BODY) for _ in range(size // 4)])
        dripping = asyncio.create_task(drip(heads + slow))
        large = asyncio.gather(*(send_large(address) for _ in range(bodies)))
        served = most = 0
        try:
            async with asyncio.timeout(CUT_OFF_SECONDS):
                while not (served and large.done() and all(one.is_over for one in heads)):
                    await serves(http)
                    served += 1
                    most = max(most, *(len(psutil.Process(pid).net_connections()) for pid, _ in gateways))
        finally:
            dripping.cancel()
            large.cancel()
            refused = sum(one.told == 503 for one in slow)
            for one in heads + slow:
                one.close()

        beyond = max(0, len(slow) - MOST_OF_AN_ADDRESS)
        # Where slow bodies have taken all places of the address, a large one is sent away for that.
        assert set(await large) <= {413, None, *([503] if beyond else [])}
        assert {one.told for one in heads} <= {0, 408}
        # The large bodies take a place for a moment each.
        assert beyond <= refused <= beyond + bodies
        assert most < MOST_OF_A_GATEWAY
        print(f"\n{size} bad connections, {bodies} bodies: {served} orders; {refused} sent away")  # noqa: T201


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
