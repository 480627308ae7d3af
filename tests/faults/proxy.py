"""A TCP proxy that can misbehave: between a service and one of the parts that it needs.

    async with Proxy("127.0.0.1", 5432) as proxy:
        connect(proxy.host, proxy.port)
        proxy.stall(ANSWERS)      # questions arrive, answers do not
        proxy.slow(0.2)           # whatever passes arrives so much later
    proxy.cut()               # every connection is reset, new ones are refused
        proxy.let_through()       # all is well again; what was held back arrives late

Kafka tells its clients where the brokers are, so they would go past a proxy: with `advertises=True` that address is
replaced by the proxy's own wherever the answers hold it. The replacement is as long as what it replaces, so an answer
need not be understood for it beyond its length.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

QUESTIONS, ANSWERS = "questions", "answers"
BOTH = (QUESTIONS, ANSWERS)
CHUNK_BYTES = 64 * 1024
LENGTH = struct.Struct(">i")
Change = Callable[[bytes], bytes]


class Proxy:
    """Forwards each connection to `upstream_host:upstream_port` until it is told otherwise. Its port stays the same.

    `held` counts the chunks that a stall kept back, `delayed` those that `slow` did, by direction: the proof that it
    concerned somebody. `refused`: the connections that were not let in.
    """

    def __init__(self, upstream_host: str, upstream_port: int, advertises: bool = False) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.held = {QUESTIONS: 0, ANSWERS: 0}
        self.delayed = {QUESTIONS: 0, ANSWERS: 0}
        self.refused = 0
        self.slow_seconds = 0.0
        self._upstream = upstream_host, upstream_port
        self._advertises = advertises
        self._open = {QUESTIONS: asyncio.Event(), ANSWERS: asyncio.Event()}
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    # -- the faults ---------------------------------------------------------------------------------------------------

    def let_through(self) -> None:
        """No fault. What a stall held back goes on its way now, late as it is."""
        self._is_cut = False
        self.slow_seconds = 0.0
        for direction in self._open.values():
            direction.set()

    def stall(self, *directions: str) -> None:
        """Nothing passes in these directions, and nobody is told: connections stay, new ones are taken."""
        for direction in directions:
            self._open[direction].clear()

    def cut(self) -> None:
        """Reset every connection, with what is held back in it, and every new one."""
        self._is_cut = True
        self._reset()

    def slow(self, seconds: float) -> None:
        """Each chunk, either way, arrives so much later."""
        self.slow_seconds = seconds

    # -- forwarding ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.let_through()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            self.refused += 1
            writer.transport.abort()
            return
        try:
            from_upstream, to_upstream = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, to_upstream}
        if self._is_cut:
            # Since it was taken.
            self.refused += 1
            for each in pair:
                each.transport.abort()
            return
        self._writers |= pair
        ways = [
            asyncio.create_task(self._forward(reader, to_upstream, QUESTIONS, _unchanged)),
            asyncio.create_task(self._forward(from_upstream, writer, ANSWERS, self._change())),
        ]
        self._tasks.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        # One side has gone: the other hears of it, as without a proxy.
        for each in pair:
            each.close()
        self._writers -= pair
        for way in ways:
            way.cancel()
            self._tasks.discard(way)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str, change: Change
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if not self._open[direction].is_set():
                    self.held[direction] += 1
                    await self._open[direction].wait()
                if self.slow_seconds:
                    self.delayed[direction] += 1
                    await asyncio.sleep(self.slow_seconds)
                writer.write(change(chunk))
                await writer.drain()

    def _change(self) -> Change:
        if not self._advertises:
            return _unchanged
        host, port = self._upstream
        return Replacement(_address(host, port), _address(self.host, self.port))


class Replacement:
    """Replaces `old` by `new`, which is as long, in a stream of messages that comes in chunks of any size.

    Messages are Kafka's: INT32 length, then so many bytes. Each is passed on as soon as it is complete.
    """

    def __init__(self, old: bytes, new: bytes) -> None:
        assert len(old) == len(new)
        self._old = old
        self._new = new
        self._rest = b""

    def __call__(self, chunk: bytes) -> bytes:
        self._rest += chunk
        end = 0
        while len(self._rest) >= (begin := end + LENGTH.size):
            complete = begin + LENGTH.unpack_from(self._rest, end)[0]
            if complete > len(self._rest):
                break
            end = complete
        messages, self._rest = self._rest[:end], self._rest[end:]
        return messages.replace(self._old, self._new)


def _address(host: str, port: int) -> bytes:
    """How Kafka's protocol writes it: the host's text, then the port as INT32."""
    return host.encode() + LENGTH.pack(port)


def _unchanged(chunk: bytes) -> bytes:
    return chunk
