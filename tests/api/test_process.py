"""`python -m api` as whoever runs it sees it."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.api.conftest import as_customer, eventually, new_key, order
from tests.faults.proxy import BOTH, QUESTIONS, Proxy
from tests.waiting import eventually as wait_until

MOST_MEMORY_KIB = 150 * 1024
#: A gateway for tests that are not about Redis: on a busy machine it may take longer than a gateway waits, which then
#: would do without.
PATIENT = "from api import shared_memory; shared_memory.TIMEOUT_SECONDS = 30.0; from api.__main__ import main; main()"


@asynccontextmanager
async def started(environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def address_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        line = json.loads(await process.stdout.readline())
    assert line["event"] == "listening"
    return str(line["address"])


async def ended(process: asyncio.subprocess.Process, within_seconds: float) -> tuple[int, str]:
    """Its status and what it said on standard error."""
    assert process.stderr is not None
    async with asyncio.timeout(within_seconds):
        said = await process.stderr.read()
        return await process.wait(), said.decode()


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


async def test_a_gateway_says_where_it_listens_takes_orders_and_ends_when_asked(environment: dict[str, str]):
    async with started(environment) as process:
        address = await address_of(process)
        async with httpx.AsyncClient(base_url=address) as http:

            async def ready() -> bool:
                return (await http.get("/health/ready")).json()["status"] == "ready"

            await eventually(ready)
            placed = await http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=new_key()))
            assert placed.status_code == 202
            if sys.platform == "linux":
                assert resident_kib(process.pid) < MOST_MEMORY_KIB

        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status, said = await ended(process, within_seconds=5)

        assert (status, time.monotonic() - began < 5) == (0, True)
        assert all(json.loads(line)["service"] == "gateway" for line in said.splitlines())


async def test_a_gateway_that_ends_lets_its_streams_end_first(environment: dict[str, str]):
    async with started(environment) as process, httpx.AsyncClient(base_url=await address_of(process)) as http:
        await eventually(lambda: is_ready(http))
        async with http.stream("GET", "/v1/orders/events", headers=as_customer("streaming"), timeout=20) as stream:
            told = stream.aiter_raw()
            assert (await anext(told)).startswith(b"retry:")

            process.send_signal(signal.SIGTERM)
            # To its proper end: one that is cut off would raise.
            rest = b"".join([piece async for piece in told])
        status, said = await ended(process, within_seconds=5)

    # Where it is may be said at its beginning; told is nothing.
    assert (b"data:" in rest, status) == (False, 0)
    assert "Cancel" not in said


async def test_a_gateway_whose_database_says_nothing_ends_when_asked(environment: dict[str, str]):
    timeline = urlsplit(environment["PAVANE_DATABASE_TIMELINE"])
    assert timeline.hostname is not None and timeline.port is not None
    async with Proxy(timeline.hostname, timeline.port) as proxy:
        here = timeline._replace(netloc=f"{timeline.username}:{timeline.password}@{proxy.host}:{proxy.port}").geturl()
        async with (
            started({**environment, "PAVANE_DATABASE_TIMELINE": here}) as process,
            httpx.AsyncClient(base_url=await address_of(process), timeout=20) as http,
        ):
            await eventually(lambda: is_ready(http))
            async with http.stream("GET", "/v1/orders/events", headers=as_customer("streaming")) as stream:
                await anext(stream.aiter_raw())
                proxy.stall(*BOTH)
                asking = asyncio.create_task(http.get("/v1/orders", headers=as_customer()))
                await wait_until(lambda: proxy.held[QUESTIONS] >= 2, what="it was asked, and says nothing")
                process.send_signal(signal.SIGTERM)
                status, _ = await ended(process, within_seconds=5)
            await asyncio.gather(asking, return_exceptions=True)

    assert status == 0


async def is_ready(http: httpx.AsyncClient) -> bool:
    return bool((await http.get("/health/ready")).json()["status"] == "ready")


async def test_a_gateway_without_anything_behind_it_answers_that_and_ends_when_asked(environment: dict[str, str]):
    nothing = {
        "PAVANE_KAFKA": "127.0.0.1:1",
        "PAVANE_REGISTRY": "http://127.0.0.1:1",
        "PAVANE_REDIS": "redis://127.0.0.1:1",
        "PAVANE_DATABASE_TIMELINE": "postgresql://x@127.0.0.1:1/timeline",
    }
    async with started({**environment, **nothing}) as process:
        async with httpx.AsyncClient(base_url=await address_of(process)) as http:
            ready = await http.get("/health/ready")
            live = await http.get("/health/live")

        process.send_signal(signal.SIGTERM)
        status, _ = await ended(process, within_seconds=5)

        assert (ready.status_code, set(ready.json()["missing"])) == (503, {"kafka", "timeline", "redis"})
        assert (live.status_code, status) == (200, 0)


async def test_a_wrong_setting_ends_it_with_a_message(environment: dict[str, str]):
    async with started({**environment, "PAVANE_REDIS": "localhost"}) as process:
        status, said = await ended(process, within_seconds=20)

    assert (status, said.count("\n")) == (1, 1)
    assert "PAVANE_REDIS" in said


async def test_a_taken_port_ends_it_with_a_message(environment: dict[str, str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with started({**environment, "PAVANE_GATEWAY_PORT": port}) as process:
            status, said = await ended(process, within_seconds=20)

    assert status == 1
    assert f"PAVANE_GATEWAY_PORT {port}" in said
