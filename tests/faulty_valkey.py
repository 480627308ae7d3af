"""A Valkey of a test's own, to be killed, frozen, emptied and filled without disturbing anybody."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as NoConnection
from redis.exceptions import OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as NoReply

from infra.valkey import Valkey
from tests.waiting import eventually

Fault = Callable[["FaultyValkey"], Awaitable[None]]


class FaultyValkey:
    """The server and a client of it. Each fault proves that it has come about before it returns."""

    def __init__(self, server: Valkey) -> None:
        self.server = server
        self.url = server.url
        self.redis: Redis = Redis.from_url(server.url, socket_timeout=0.5, socket_connect_timeout=0.5)

    async def killed(self) -> None:
        """SIGKILL."""
        self.server.kill()
        assert not self.server.is_running
        with pytest.raises(NoConnection):
            await self.redis.ping()

    async def paused(self) -> None:
        """SIGSTOP: connections stay, answers do not come."""
        self.server.pause()
        with pytest.raises((NoReply, NoConnection)):
            await self.redis.ping()

    async def full(self) -> None:
        """No memory left for anything new."""
        await self.redis.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            await self.redis.set("one", "more")

    async def flushed(self) -> None:
        """Everything forgotten."""
        await self.redis.flushall()
        assert await self.redis.dbsize() == 0

    async def well(self) -> None:
        """Everything made good again, and answering."""
        if not self.server.is_running:
            await self.server.start()
        self.server.resume()
        await eventually(self._answers, what="Redis answers")
        await self.redis.config_set("maxmemory", 0)

    async def _answers(self) -> bool:
        """Not while it comes up: who started it may have been interrupted before it listened, or had loaded."""
        with suppress(RedisError):
            return bool(await self.redis.ping())
        return False

    async def commands(self) -> int:
        """How many commands it was ever sent, without those of this question."""
        stats: dict[str, Any] = await self.redis.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if name in ("cmdstat_evalsha", "cmdstat_eval"))


@asynccontextmanager
async def faulty_valkey(folder: Path) -> AsyncIterator[FaultyValkey]:
    """Started in that folder; ended whatever state it is in."""
    server = Valkey(folder / "valkey", "of-a-test")
    await server.start()
    valkey = FaultyValkey(server)
    try:
        yield valkey
    finally:
        with suppress(RedisError):
            await valkey.redis.aclose()
        server.kill()
