"""Server-sent events (WHATWG HTML, section 9.2): facts of orders as they are told, one task and one queue a stream.

A stream begins with what its caller has missed, then goes on with what is told. When nothing else was said for
`HEARTBEAT_SECONDS` it says a comment, or where it is, so that both ends notice when the other is gone. It ends after
`LONGEST_SECONDS` at most, so that a token is looked at again; when its reader is too slow; and when the gateway ends.
Clients come again by themselves with the last id that they have seen.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import Unavailable
from api.feed import Heard, Listener

HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 900.0
SEND_SECONDS = 30.0
"""A reader that takes nothing for so long is let go."""
RETRY_MS = 1_000
"""After so long clients come again, as they are told at the beginning."""

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b":\n\n"

Write = Callable[[Heard], bytes | None]
"""An event as bytes; None: this one is not to be said."""


def event(event_id: str, name: str, data: str) -> bytes:
    """One event. `data` is JSON on one line."""
    return f"id: {event_id}\nevent: {name}\ndata: {data}\n\n".encode()


def lone_id(event_id: str) -> bytes:
    """An id without an event: from there clients go on when they come again."""
    return f"id: {event_id}\n\n".encode()


class EventStream(Response):
    """What was missed, then what `listener` hears. `is_over`: asked after each event, whether there will be no more.
    `heartbeat`: gives what is said when nothing else was for a while.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        listener: Listener,
        missed: AsyncIterator[bytes],
        write: Write,
        is_over: Callable[[], bool] = lambda: False,
        heartbeat: Callable[[], bytes] = lambda: HEARTBEAT,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        self._listener = listener
        self._missed = missed
        self._write = write
        self._is_over = is_over
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the stream or its caller ends."""
        with self._listener, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_SECONDS * random.uniform(0.9, 1.0)) as time:
                gone = asyncio.create_task(_over_when_gone(receive, time), name="stream left")
                try:
                    await self._run(send)
                finally:
                    gone.cancel()
        if not gone.done():
            await _within(SEND_SECONDS, send({"type": "http.response.body", "body": b"", "more_body": False}))

    async def _run(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _say(send, b"retry: %d\n\n" % RETRY_MS)
        try:
            async for missed in self._missed:
                await _say(send, missed)
        except Unavailable:
            # What came so far is told; the client comes again for the rest.
            return
        while not self._is_over():
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    heard = await self._listener.next()
            except TimeoutError:
                await _say(send, self._heartbeat())
                continue
            if heard is None:
                return
            said = self._write(heard)
            if said is not None:
                await _say(send, said)


async def _say(send: Send, what: bytes) -> None:
    await _within(SEND_SECONDS, send({"type": "http.response.body", "body": what, "more_body": True}))


async def _within(seconds: float, sending: Awaitable[None]) -> None:
    async with asyncio.timeout(seconds):
        await sending


async def _over_when_gone(receive: Receive, time: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not time.expired():
        time.reschedule(0)
