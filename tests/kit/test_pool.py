"""Questions of a database that restarts, is slow, or says nothing: each has an end, and the next is answered."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from streams.kit import pool as module
from streams.kit.pool import Pool
from tests.faults.proxy import BOTH, QUESTIONS, Proxy
from tests.waiting import eventually

CONNECTIONS, WAIT_SECONDS, QUESTION_SECONDS = 3, 1.0, 1


@pytest.fixture
async def between(new_database: Callable[[], Awaitable[str]]) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy, and a database's address behind it."""
    url = await new_database()
    upstream = urlsplit(url)
    assert upstream.hostname is not None and upstream.port is not None
    async with Proxy(upstream.hostname, upstream.port) as proxy:
        yield proxy, url.replace(f"{upstream.hostname}:{upstream.port}", f"{proxy.host}:{proxy.port}")


@pytest.fixture
async def pool(between: tuple[Proxy, str]) -> AsyncIterator[Pool[tuple[Any, ...]]]:
    _, url = between
    pool = Pool(
        url,
        "asking",
        connections=CONNECTIONS,
        wait_seconds=WAIT_SECONDS,
        question_seconds=QUESTION_SECONDS,
        row_factory=tuple_row,
    )
    await pool.open()
    # All its connections are there.
    await asyncio.gather(*(pool.ask(asking("SELECT pg_sleep(0.1)")) for _ in range(CONNECTIONS)))
    yield pool
    await pool.close()


def asking(query: str, asked: list[str] | None = None) -> Callable[[AsyncConnection[Any]], Awaitable[Any]]:
    async def ask(connection: AsyncConnection[Any]) -> Any:
        if asked is not None:
            asked.append(query)
        return await (await connection.execute(query.encode())).fetchall()

    return ask


async def test_a_database_that_says_nothing_is_asked_within_a_bound_and_answers_again_when_it_goes_on(
    between: tuple[Proxy, str], pool: Pool[tuple[Any, ...]]
) -> None:
    proxy, _ = between
    proxy.stall(*BOTH)
    began = time.monotonic()

    answers = await asyncio.gather(*(pool.ask(asking("SELECT 1")) for _ in range(20)), return_exceptions=True)

    assert proxy.held[QUESTIONS] == CONNECTIONS
    assert all(isinstance(answer, psycopg.OperationalError) for answer in answers)
    assert time.monotonic() - began < WAIT_SECONDS + QUESTION_SECONDS + module.ANSWER_LATE_SECONDS + 1.0
    proxy.let_through()

    async def answered() -> bool:
        try:
            return await pool.ask(asking("SELECT 1")) == [(1,)]
        except psycopg.OperationalError:
            return False

    await eventually(answered, what="it answers again")


async def test_whoever_is_called_off_is_so_at_once_though_the_database_says_nothing(
    between: tuple[Proxy, str], pool: Pool[tuple[Any, ...]]
) -> None:
    proxy, _ = between
    proxy.stall(*BOTH)
    asking_in_vain = asyncio.create_task(pool.ask(asking("SELECT 1")))
    await eventually(lambda: proxy.held[QUESTIONS] > 0, what="it was asked")
    began = time.monotonic()

    asking_in_vain.cancel()
    await asyncio.wait([asking_in_vain])

    assert asking_in_vain.cancelled()
    assert time.monotonic() - began < QUESTION_SECONDS


async def test_all_connections_that_were_lost_are_replaced_unnoticed(
    between: tuple[Proxy, str], pool: Pool[tuple[Any, ...]]
) -> None:
    _, url = between
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
        ended = await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'asking'"
        )
        assert len(await ended.fetchall()) == CONNECTIONS

    assert await asyncio.gather(*(pool.ask(asking("SELECT 1")) for _ in range(10))) == [[(1,)]] * 10


async def test_a_question_whose_connection_is_lost_is_asked_again(pool: Pool[tuple[Any, ...]]) -> None:
    asked: list[str] = []

    async def ends_its_own(connection: AsyncConnection[Any]) -> Any:
        last = "SELECT 1" if asked else "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1)"
        return await asking(last, asked)(connection)

    assert (await pool.ask(ends_its_own), len(asked)) == ([(1,)], 2)


async def test_a_question_that_takes_too_long_is_not_asked_again(pool: Pool[tuple[Any, ...]]) -> None:
    asked: list[str] = []

    with pytest.raises(psycopg.errors.QueryCanceled):
        await pool.ask(asking("SELECT pg_sleep(30)", asked))

    assert len(asked) == 1
