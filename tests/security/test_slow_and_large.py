"""Whoever sends too slowly, too much, too often at once, or nothing at all: others are served."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from api import edge, wire
from api.addresses import networks
from api.app import application
from api.wire import bounded
from tests.api.conftest import Door, as_customer, eventually, new_key, order, serving

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


class Client:
    """A connection on which every byte is the test's own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def told(self) -> tuple[int, dict[str, Any]]:
        """The status and the problem that came before the connection was ended by the other side; 0 if none did, as
        who goes on sending after the end may see nothing of it (RFC 9112, 9.6)."""
        whole = b""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while piece := await self._reader.read(65_536):
                    whole += piece
        if not whole:
            return 0, {}
        head, _, body = whole.partition(b"\r\n\r\n")
        assert b"application/problem+json" in head
        return int(head.split()[1]), json.loads(body)

    async def is_served(self) -> bool:
        self.writer.write(GET + b"\r\n")
        async with asyncio.timeout(20):
            return (await self._reader.readuntil(b"}}")).startswith(b"HTTP/1.1 200 ")

    async def answered(self) -> int:
        """The status of the answer."""
        return int((await self._reader.readuntil(b"\r\n")).split()[1])

    async def ended(self) -> None:
        """Until the other side has ended the connection."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(65_536):
                    pass

    def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def port(door: Door) -> AsyncIterator[int]:
    async with serving(door.app) as address:
        found = httpx.URL(address).port
        assert found
        yield found


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def test_heads_that_never_end_are_cut_off_and_others_are_served_meanwhile(
    port: int, monkeypatch: pytest.MonkeyPatch
):
    """Slowloris (R. Hansen, 2009): many connections, each of which sends a little of a head now and then."""
    monkeypatch.setattr(wire, "HEAD_SECONDS", 1.5)
    slow = [await connect(port) for _ in range(200)]
    for each in slow:
        each.writer.write(GET)

    async def drip(client: Client) -> tuple[int, dict[str, Any]]:
        answer = asyncio.create_task(client.told())
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                client.writer.write(b"X-a: b\r\n")
                await asyncio.wait([answer], timeout=0.3)
        return await answer

    dripping = asyncio.gather(*(drip(each) for each in slow))
    other = await connect(port)
    assert await other.is_served()
    other.close()

    answers = await dripping
    told = [(status, problem["type"]) for status, problem in answers if status]
    assert len(told) > len(slow) / 2
    assert set(told) == {(408, "/problems/head-too-slow")}
    for each in slow:
        each.close()


async def test_a_connection_that_says_nothing_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.3)
    silent = await connect(port)

    assert (await silent.told())[0] == 408


async def test_a_connection_that_was_served_before_has_no_more_patience(port: int, monkeypatch: pytest.MonkeyPatch):
    client = await connect(port)
    assert await client.is_served()
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.3)

    client.writer.write(b"GET /")

    assert (await client.told())[0] == 408


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X-a: " + b"a" * 20_000 + b"\r\n\r\n",
        GET + b"X-a: " + b"a" * 20_000,
        GET + b"".join(b"X-%d: b\r\n" % n for n in range(100)) + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["a long header", "a long header that does not end", "many headers", "a long address"],
)
async def test_a_head_that_is_too_large_answered(port: int, head: bytes):
    client = await connect(port)
    client.writer.write(head)

    status, problem = await client.told()

    assert (status, problem["type"]) == (431, "/problems/head-too-large")


CHUNKED = b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"


async def test_what_is_said_behind_a_body_is_not_said(door: Door, port: int):
    headers = as_customer(idempotency_key=new_key())
    body = json.dumps(order()).encode()
    trailers = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    client = await connect(port)
    client.writer.write(CHUNKED + b"Content-Type: application/json\r\n\r\n")
    client.writer.write(b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailers))

    assert await client.answered() == 401
    assert not door.log.requests
    client.close()


@pytest.mark.parametrize(
    ("before", "again"),
    [
        (b"0\r\n", b"X-a: " + b"a" * 1_000 + b"\r\n"),
        (b"0\r\nX-a: ", b"a" * 1_000),
        (b"1;x=", b"a" * 1_000),
        (b"1\r\n \r\n1;x=", b"a" * 1_000),
    ],
    ids=["trailers", "a trailer that does not end", "an extension of a chunk", "an extension of a later chunk"],
)
async def test_what_comes_beside_a_body_is_bounded(port: int, before: bytes, again: bytes):
    client = await connect(port)
    client.writer.write(CHUNKED + b"\r\n" + before)
    told = asyncio.create_task(client.told())
    sent = 0
    with contextlib.suppress(ConnectionError):
        while not told.done():
            client.writer.write(again)
            sent += len(again)
            await asyncio.wait([told], timeout=0.01)

    assert (await told)[0] in (431, 0), "who goes on sending may see a reset"
    assert sent < 1024 * 1024


async def test_what_is_no_chunk_is_told_so_once_however_much_of_it_there_is(port: int):
    client = await connect(port)
    client.writer.write(CHUNKED + b"\r\n")
    client.writer.write(b"Z" * 100_000)

    assert (await client.told())[0] in (400, 0)


async def test_a_body_in_very_small_chunks_is_a_body(door: Door, port: int):
    client = await connect(port)
    headers = as_customer(idempotency_key=new_key(), content_type="application/json")
    client.writer.write(CHUNKED + "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n")
    for byte in json.dumps(order()).ljust(20_000).encode():
        client.writer.write(b"1\r\n%c\r\n" % byte)
    client.writer.write(b"0\r\nX-a: b\r\n\r\n")

    assert await client.answered() == 202
    client.close()


async def test_many_small_requests_on_one_connection_are_no_large_head(port: int):
    client = await connect(port)

    for _ in range(40):
        client.writer.write(GET + b"X-a: " + b"a" * 1_000 + b"\r\n\r\n")
    assert await client.is_served()
    client.close()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"HELO mail.example\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nX a: b\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-a: b\x00c\r\n\r\n",
        # Two lengths of one body (RFC 9112, 6.3): where the next request begins is a matter of taste, so none is taken.
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n",
    ],
    ids=["TLS", "SMTP", "HTTP/9.9", "length -1", "a blank", "a NUL", "two framings", "two lengths", "xchunked", "ZZ"],
)
async def test_what_is_not_http_is_told_so_as_a_problem(door: Door, port: int, nonsense: bytes):
    client = await connect(port)
    client.writer.write(nonsense)

    status, problem = await client.told()

    assert (status, problem["type"].rpartition("/")[2]) in [(400, "malformed-request"), (401, "unauthenticated")]
    assert not door.log.requests


async def test_one_address_may_have_so_many_connections_and_no_more(door: Door):
    async with serving(door.app, bounded(most_of_an_address=5)) as address:
        port = httpx.URL(address).port
        assert port
        clients = [await connect(port) for _ in range(5)]
        assert all([await each.is_served() for each in clients])

        turned_away = await connect(port)
        assert await turned_away.told() == (503, {**(await _told_again(port)), "correlation_id": _any})
        clients.pop().close()

        async def is_let_in() -> bool:
            client = await connect(port)
            try:
                return await client.is_served()
            except (asyncio.IncompleteReadError, ConnectionError):
                return False
            finally:
                client.close()

        await eventually(is_let_in)
        for each in clients:
            each.close()


class Coming(asyncio.Transport):
    """A connection from this address, as far as the protocol sees one."""

    def __init__(self, address: str) -> None:
        super().__init__({"peername": (address, 5000)})
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def close(self) -> None: ...

    def is_closing(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("has_all", "same", "another"),
    [("2001:db8:0:7::1", "2001:db8:0:7:f::2", "2001:db8:0:8::1"), ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8")],
)
async def test_the_connections_of_an_ipv6_address_are_those_of_its_network(
    door: Door, has_all: str, same: str, another: str
):
    config = uvicorn.Config(door.app, http=bounded(most_of_an_address=2), log_config=None, lifespan="off")
    config.load()
    state = ServerState()

    def come(address: str) -> bytes:
        coming, protocol = Coming(address), config.http_protocol_class(config, state, {})
        protocol.connection_made(coming)
        came.append(protocol)
        return coming.sent

    came: list[Any] = []
    assert (come(has_all), come(has_all)) == (b"", b"")
    assert come(same).startswith(b"HTTP/1.1 503 ")
    assert come(another) == b""
    for protocol in came:
        protocol.connection_lost(None)
    assert not wire._HAS


class _Any:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


_any = _Any()


async def _told_again(port: int) -> dict[str, Any]:
    problem = (await (await connect(port)).told())[1]
    assert problem["type"] == "/problems/too-many-connections"
    return problem


async def test_who_does_not_read_its_answers_is_cut_off(door: Door, port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "READER_SECONDS", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    one = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    gone = asyncio.create_task(_written_until_gone(writer, one))
    other = await connect(port)
    assert await other.is_served()
    other.close()

    async with asyncio.timeout(60):
        await gone
    assert reader is not None


async def _written_until_gone(writer: asyncio.StreamWriter, one: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(one * 50)
            await asyncio.wait([asyncio.create_task(writer.drain())], timeout=0.1)
            if writer.transport.is_closing():
                return


NO_BODY = b"POST %s HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 10\r\n\r\n"


@pytest.mark.parametrize("path", [b"/v1/orders", b"/v1/orders/x/events", b"/health/live"])
async def test_bodies_that_do_not_come_take_places_of_their_address_and_others_are_served(
    door: Door, monkeypatch: pytest.MonkeyPatch, path: bytes
):
    monkeypatch.setattr(edge, "MOST_UNDER_WAY", 5)
    monkeypatch.setattr(edge, "MOST_BODIES_OF_AN_ADDRESS", 20)
    app = application(door.app._app._app.state.gateway, networks("127.0.0.1"))
    async with serving(app) as address, httpx.AsyncClient(base_url=address) as http:
        port = httpx.URL(address).port
        assert port
        slow = [await connect(port) for _ in range(50)]
        for each in slow:
            each.writer.write(NO_BODY % path)
        refused = [asyncio.create_task(each.answered()) for each in slow]
        await eventually(lambda: _have_ended(refused, 30))

        async def placed(where: str) -> int:
            headers = as_customer(idempotency_key=new_key(), x_forwarded_for=where)
            return (await http.post("/v1/orders", json=order(), headers=headers)).status_code

        looked = await http.get("/v1/stock/lamp", headers=as_customer(x_forwarded_for="203.0.113.9"))
        assert [await placed("203.0.113.9"), await placed("203.0.113.10"), looked.status_code] == [503, 202, 404]
        assert [task.result() for task in refused if task.done()] == [503] * 30
        for each in slow:
            each.close()
        await asyncio.gather(*refused, return_exceptions=True)


async def _have_ended(tasks: list[asyncio.Task[int]], count: int) -> bool:
    return sum(task.done() for task in tasks) == count


async def test_the_rest_of_a_body_that_was_answered_early_is_not_waited_for_for_ever(
    door: Door, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(edge, "MOST_BODIES", 0)
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.5)
    async with serving(application(door.app._app._app.state.gateway)) as address:
        port = httpx.URL(address).port
        assert port
        client = await connect(port)
        client.writer.write(NO_BODY.replace(b"10", b"60000") % b"/v1/orders")
        assert await client.answered() == 503
        ended = asyncio.create_task(client.ended())
        with contextlib.suppress(ConnectionError):
            while not ended.done():
                client.writer.write(b" ")
                await asyncio.wait([ended], timeout=0.1)
        await ended


async def test_a_hundred_mebibytes_leave_no_trace_and_others_are_served(door: Door, port: int):
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        headers = {**as_customer(idempotency_key=new_key()), "Content-Type": "application/json"}

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 1024 * 1024

        async def large() -> int | None:
            try:
                return (await http.post("/v1/orders", content=endless(), headers=headers)).status_code
            except httpx.TransportError:
                return None

        sending = asyncio.gather(*(large() for _ in range(3)))
        placed = await http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=new_key()))

        assert placed.status_code == 202
        assert set(await sending) <= {413, None}
        assert len(door.log.requests) == 1
    assert time.monotonic() - began < 120
