"""A few connections to one database, for short questions that may be asked twice. Whoever asks gets an answer or an
error within a bound, also when the database says nothing at all: no timeout of its own ends that.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import AsyncRowFactory
from psycopg_pool import AsyncConnectionPool

from streams.kit.logs import logger

KEEPALIVES: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11_000,
}
"""A server that vanished without a word is noticed within about ten seconds."""
ANSWER_LATE_SECONDS = 1.0
"""So much longer than the database itself allows a statement is its answer waited for."""
_RECONNECT_SECONDS = 5.0
"""Given up so soon and begun again by the next who asks: the pool's own attempts grow ever rarer."""

Row = TypeVar("Row")
T = TypeVar("T")


class Pool(Generic[Row]):
    """`connections` at most. A place among them is waited for `wait_seconds`, a question may take `question_seconds`.

    It may be away and come later. What is asked raises `psycopg.Error`.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        connections: int,
        wait_seconds: float,
        question_seconds: int,
        row_factory: AsyncRowFactory[Row],
        options: str = "",
    ) -> None:
        self._answer_seconds = question_seconds + ANSWER_LATE_SECONDS
        self._pool: AsyncConnectionPool[AsyncConnection[Row]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=connections,
            timeout=wait_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
            open=False,
            name=name,
            kwargs={
                "autocommit": True,
                "row_factory": row_factory,
                "connect_timeout": 2,
                "application_name": name,
                "options": f"-c statement_timeout={question_seconds}s {options}",
                **KEEPALIVES,
            },
        )

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close(timeout=1.0)

    async def ask(self, question: Callable[[AsyncConnection[Row]], Awaitable[T]]) -> T:
        """The answer to it; asked twice when the connection turns out to be lost."""
        loop = asyncio.get_running_loop()
        for again in (False, True):
            async with self._pool.connection() as connection:
                overdue = loop.call_later(self._answer_seconds, hang_up, connection)
                try:
                    return await _answered(question, connection)
                except psycopg.OperationalError:
                    if again or not connection.closed or loop.time() >= overdue.when():
                        raise
                finally:
                    overdue.cancel()
            # Lost, as when the database restarted: so are the others, which nobody has tried since.
            await self._pool.drain()
        raise AssertionError("unreachable")


async def _answered(question: Callable[[AsyncConnection[Row]], Awaitable[T]], connection: AsyncConnection[Row]) -> T:
    """Whoever is called off is so at once: left to itself, the client asks the server to end the question, and waits up
    to ten seconds for that."""
    asked = asyncio.ensure_future(question(connection))
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        _shut(connection)
        await asyncio.wait([asked])
        if not asked.cancelled():
            asked.exception()
        raise


def hang_up(connection: AsyncConnection[Any]) -> None:
    """End the connection under whoever waits for an answer: to it, the server has gone."""
    logger().warning("database_hung_up", reason="its answer is overdue")
    _shut(connection)


def _shut(connection: AsyncConnection[Any]) -> None:
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
