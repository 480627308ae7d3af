"""Counts round trips to a PostgreSQL: a proxy between a service and its database that sees who speaks when."""

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit

T = TypeVar("T")
HOST = "127.0.0.1"


class CountingProxy:
    """Stands before the server of `url`, on a thread of its own, from the block's beginning to its end.

    `round_trips`: how often a client spoke after the server had, over all connections. What is sent at once, such as
    a pipeline of statements, is one; so is what a large message needs several packets for.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.round_trips = 0
        self._parts = parts
        self._upstream = parts.hostname or HOST, parts.port or 5432
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="counting-proxy", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The same database with the same role, through this proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        who = self._parts.netloc.rpartition("@")[0]
        return self._parts._replace(netloc=f"{who}@{HOST}:{port}").geturl()

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(self._loop.create_server(lambda: _Client(self), HOST, 0))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def connect(self, client: "_Client") -> "asyncio.Task[Any]":
        """The other half of a client's connection."""
        return self._loop.create_task(self._loop.create_connection(lambda: _Upstream(client), *self._upstream))


class _Client(asyncio.Protocol):
    """A service's side of one connection."""

    def __init__(self, proxy: CountingProxy) -> None:
        self._proxy = proxy
        self._waiting: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self.upstream: asyncio.Transport | None = None
        self.server_spoke = True
        self._connecting: asyncio.Task[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._connecting = self._proxy.connect(self)

    def joined(self, upstream: asyncio.Transport) -> None:
        self.upstream = upstream
        upstream.writelines(self._waiting)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self.server_spoke:
            self._proxy.round_trips += 1
            self.server_spoke = False
        if self.upstream is None:
            self._waiting.append(data)
        else:
            self.upstream.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.upstream is not None:
            self.upstream.close()


class _Upstream(asyncio.Protocol):
    """The server's side of one connection."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.joined(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._client.server_spoke = True
        if self._client.transport is not None:
            self._client.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._client.transport is not None:
            self._client.transport.close()
