"""The small client: what our own servers answer is read right, and a broken exchange is never taken for an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pavane.http import Connection, Unreachable


@asynccontextmanager
async def server(*answers: bytes) -> AsyncIterator[tuple[Connection, list[bytes]]]:
    """Gives these answers, one a request; an empty one closes the connection. Beside the client: what was asked."""
    asked: list[bytes] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            asked.append(head + await reader.readexactly(length))
            answer = left.pop(0)
            writer.write(answer)
            if b"Content-Length" not in answer:
                break
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    connection = Connection(f"http://127.0.0.1:{port}", timeout_seconds=5)
    try:
        yield connection, asked
    finally:
        connection.close()
        listening.close()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\nRetry-After: 2\r\n\r\n%s" % (len(body), body)


async def test_questions_and_answers_go_over_one_connection() -> None:
    async with server(ok(b"one"), ok(b"two")) as (connection, asked):
        first = await connection.ask("POST", "/v1/orders", {"Idempotency-Key": "k"}, b"body")
        second = await connection.ask("GET", "/v1/orders/1")

    assert (first.status, first.body, first.headers["retry-after"]) == (202, b"one", "2")
    assert second.body == b"two"
    assert asked[0].startswith(b"POST /v1/orders HTTP/1.1\r\n")
    assert b"\r\nIdempotency-Key: k\r\n" in asked[0]
    assert asked[0].endswith(b"\r\n\r\nbody")


async def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async with server(b"HTTP/1.0 503 Service Unavailable\r\n\r\nnot ready") as (connection, _):
        answer = await connection.ask("GET", "/health/ready")

    assert (answer.status, answer.body) == (503, b"not ready")


@pytest.mark.parametrize("broken", [b"", b"HTTP/1.1 202", b"HTTP/1.1 202 Accepted\r\nServer: x"])
async def test_a_broken_answer_is_none_and_the_next_question_gets_a_new_connection(broken: bytes) -> None:
    async with server(broken, ok(b"again")) as (connection, _):
        with pytest.raises(Unreachable):
            await connection.ask("GET", "/")

        assert (await connection.ask("GET", "/")).body == b"again"


async def test_nobody_there_is_unreachable() -> None:
    async with server() as (connection, _):
        pass

    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        await connection.ask("GET", "/")


async def test_a_question_that_is_called_off_takes_its_connection_with_it() -> None:
    async with server(ok(b"late"), ok(b"mine")) as (connection, _):
        await connection.ask("GET", "/opens")
        asking = asyncio.create_task(connection.ask("GET", "/called-off"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        assert connection._streams is None
