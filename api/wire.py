"""HTTP as it comes in: bounded in bytes, in time and in connections, before there is a request at all.

uvicorn waits for ever for a head that does not end, and keeps all of it. Here a connection is cut off

    when a request's head is not there within `HEAD_SECONDS` of its first byte, or of the connection (408),
    when a head is longer than `MOST_HEAD_BYTES` or has more than `MOST_HEADERS` fields (431),
    when that much comes beside a body: behind it, as trailers, or between its chunks (431),
    when its client takes nothing of an answer for `READER_SECONDS`,
    when there are more connections than the gateway, or one address, may have (503, as soon as it comes).

Trailers say nothing here (RFC 9110, 6.5.1): what was not said before the body was not said.

What the gateway may have is also bounded by the files that this process may open: without one for it, a connection
would wait unseen until another ends.
"""

import asyncio
import resource
from collections import Counter
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.addresses import address_of
from api.correlation import CORRELATION_HEADER, new_id
from api.edge import ALWAYS
from api.errors import HeadTooLarge, HeadTooSlow, MalformedRequest, Problem, TooManyConnections
from api.problems import render
from api.telemetry import CUT_OFF

HEAD_SECONDS = 10.0
READER_SECONDS = 30.0
MOST_HEAD_BYTES = 16 * 1024
MOST_HEADERS = 64
MOST_CONNECTIONS = 20_000
FILES_KEPT = 256
"""For servers, the log, and connections that are being sent away."""

_HAS: Counter[str] = Counter()


def bounded(most_of_an_address: int = 0, most: int = MOST_CONNECTIONS) -> type["BoundedHttp"]:
    """The protocol with as many connections of one address (0: any number), and of all."""
    return type("BoundedHttp", (BoundedHttp,), {"most_of_an_address": most_of_an_address, "most": most})


def most_by_files() -> int:
    """For how many connections there are files, once this process has raised its limit as far as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + FILES_KEPT
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - FILES_KEPT)


class BoundedHttp(HttpToolsProtocol):
    """One connection. `most_of_an_address`: how many connections one address may have; 0 for any number."""

    most_of_an_address = 0
    most = MOST_CONNECTIONS

    def __init__(self, config: Config, *more: Any, **named: Any) -> None:
        super().__init__(config, *more, **named)
        self._head_bytes = 0
        self._beside_body_bytes = 0
        self._in_head = True
        # One for what is to come in, one for what is to go out.
        self._patience: asyncio.TimerHandle | None = None
        self._patience_out: asyncio.TimerHandle | None = None
        self._address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = address_of(self.client[0] if self.client else None, (), ())
        _HAS[self._address] += 1
        crowded = 0 < self.most_of_an_address < _HAS[self._address]
        if crowded or len(self.connections) > self.most:
            self._cut_off(TooManyConnections())
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._patience_out is not None:
            self._patience_out.cancel()
        _HAS[self._address] -= 1
        if not _HAS[self._address]:
            del _HAS[self._address]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._patience is None:
                self._await_head()
            # A head in one piece with a body is at most as long as the piece; only what is certain is refused.
            self._head_bytes += len(data)
            end = data.find(b"\r\n\r\n")
            if self._head_bytes - (len(data) - end if end >= 0 else 0) > MOST_HEAD_BYTES:
                self._cut_off(HeadTooLarge(MOST_HEAD_BYTES, MOST_HEADERS))
                return
        if not self.transport.is_closing():
            self._beside_body_bytes += len(data)
            super().data_received(data)
            is_too_much = not self._in_head and self._beside_body_bytes > MOST_HEAD_BYTES
            if is_too_much and not self.transport.is_closing():
                self._cut_off_in_body()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return
        super().on_header(name, value)
        if len(self.headers) > MOST_HEADERS:
            self._cut_off(HeadTooLarge(MOST_HEAD_BYTES, MOST_HEADERS))

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._in_head, self._head_bytes, self._beside_body_bytes = False, 0, 0
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside_body_bytes = 0
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # The rest of a body that was answered early is read and let go, within the time of a head.
        if not self._in_head and self._patience is None and not self.transport.is_closing():
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience_out = self.loop.call_later(READER_SECONDS, self._reader_is_late)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._patience_out is not None:
            self._patience_out.cancel()
            self._patience_out = None

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            self._cut_off(MalformedRequest())

    def _head_is_late(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # What comes after a request that is still answered: nobody waits for it yet, and the answer goes first.
            self._await_head()
            return
        self._cut_off(HeadTooSlow(HEAD_SECONDS))

    def _cut_off_in_body(self) -> None:
        if self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self._cut_off(HeadTooLarge(MOST_HEAD_BYTES, MOST_HEADERS))

    def _reader_is_late(self) -> None:
        CUT_OFF.labels("reader").inc()
        self.transport.abort()

    def _await_head(self) -> None:
        self._patience = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _cut_off(self, problem: Problem) -> None:
        """Answer without any application, and hang up."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        CUT_OFF.labels(problem.slug).inc()
        correlation = new_id()
        answer = render(problem, correlation)
        headers = [
            *self.server_state.default_headers,
            *answer.raw_headers,
            (CORRELATION_HEADER, correlation.encode()),
            *ALWAYS,
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()
