"""The outermost layer, pure ASGI: correlation id, bounds on the body, measurements, the answer to our own mistakes."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from api.addresses import Network, address_of
from api.correlation import CORRELATION_HEADER, TRACE_HEADER, correlation_of, traceparent_of
from api.errors import BodyTooLarge, BodyTooSlow, Problem, Unexpected
from api.head import STREAMS
from api.places import Places
from api.problems import render
from api.telemetry import ANSWERED, SECONDS
from api.versions import headers_of
from streams.kit.logs import logger

MOST_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
MOST_FORGOTTEN_BYTES = 16 * 1024 * 1024
FORGETTING_SECONDS = 5.0
"""So much, and so long, is read of a body that is too large: who is cut off while sending does not see the answer."""
MOST_UNDER_WAY = 1_000
MOST_WRITES = 400
"""Of these, those that may write: while the log is away they wait for it, and reading goes on. Beside them there is
room for all that wait for a change (`api.feed`) and for others that read."""
MOST_STREAMS = 6_500
"""Open, or about to be: the feed bounds those that listen."""
MOST_BODIES = 4_000
MOST_BODIES_OF_AN_ADDRESS = 400
"""Bodies that are being read. They take nobody's place among the requests: anybody can send one slowly, or never."""

# Labels are few, and to look them up takes longer than to count.
_SECONDS, _ANSWERED = cache(SECONDS.labels), cache(ANSWERED.labels)

# Answers are about one caller's orders, and never a page to be guessed at, framed, or read by another site. A page that
# is one says so by headers of its own. (OWASP REST security cheat sheet.)
ALWAYS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
]


class Edge:
    """Wraps the application. Puts `correlation`, `traceparent` and `address` into the scope of every request."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network] = ()) -> None:
        self._app = app
        self._trusted = trusted
        self._bodies = Places(MOST_BODIES, MOST_BODIES_OF_AN_ADDRESS)
        self._requests = Places(MOST_UNDER_WAY)
        self._writes = Places(MOST_WRITES)
        self._streams = Places(MOST_STREAMS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        correlation = correlation_of(scope["headers"])
        scope["correlation"] = correlation
        scope["traceparent"] = traceparent_of(scope["headers"])
        peer = scope.get("client")
        scope["address"] = address_of(peer[0] if peer else None, scope["headers"], self._trusted)
        clear_contextvars()
        bind_contextvars(correlation=correlation)
        answer = _Answer(scope, send)
        try:
            body = await self._body(scope, receive)
            if body is None:
                return
            with self._place(scope):
                await self._app(scope, _once(body, receive), answer.send)
        except Problem as problem:
            await render(problem, correlation)(scope, receive, answer.send)
        except Exception:
            logger().exception("unexpected", method=scope["method"], route=answer.route)
            if not answer.started:
                await render(Unexpected(), correlation)(scope, receive, answer.send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None if the caller went away meanwhile."""
        headers = dict(scope["headers"])
        if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
            return b""
        with self._bodies.taken(scope["address"]):
            return await _whole_body(headers, receive)

    @contextlib.contextmanager
    def _place(self, scope: Scope) -> Iterator[None]:
        address = scope["address"]
        if not scope["path"].startswith("/v1/"):
            yield
        elif scope["method"] == "GET" and scope["path"].endswith(STREAMS):
            with self._streams.taken(address):
                yield
        elif scope["method"] in ("GET", "HEAD"):
            with self._requests.taken(address):
                yield
        else:
            with self._writes.taken(address), self._requests.taken(address):
                yield


class _Answer:
    """The answer on its way out: stamped and measured as it starts."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._stamp = [(CORRELATION_HEADER, scope["correlation"].encode()), *ALWAYS]
        if scope["traceparent"] is not None:
            # As it goes into the facts: the gateway adds no span of its own.
            self._stamp.append((TRACE_HEADER, scope["traceparent"]))
        self._began = time.perf_counter()
        self.started = False

    @property
    def route(self) -> str:
        """The route's template, such as `/v1/orders/{order_id}`."""
        return str(getattr(self._scope.get("route"), "path", "none"))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            given = message.get("headers", ())
            names = {name.lower() for name, _ in given}
            stamp = [(name, value) for name, value in self._stamp if name not in names]
            message = {**message, "headers": [*given, *stamp, *headers_of(self.route)]}
            method = self._scope["method"] if self.route != "none" else "any"
            _SECONDS(self.route, method).observe(time.perf_counter() - self._began)
            _ANSWERED(self.route, method, message["status"]).inc()
        await self._send(message)


async def _whole_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
    """The body, read at once; None if the caller went away meanwhile. Raises `BodyTooLarge` and `BodyTooSlow`."""
    # A length that is no number was refused by the server already.
    if int(headers.get(b"content-length", b"0")) > MOST_BODY_BYTES:
        # Who asks first whether to send it is not told to.
        if b"expect" not in headers:
            await _forget(receive)
        raise BodyTooLarge(MOST_BODY_BYTES)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > MOST_BODY_BYTES:
                    if message.get("more_body", False):
                        await _forget(receive)
                    raise BodyTooLarge(MOST_BODY_BYTES)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise BodyTooSlow(BODY_SECONDS) from None


async def _forget(receive: Receive) -> None:
    """Read the rest of a body, within bounds, and keep nothing of it (RFC 9112, section 9.6: a reset of the connection
    may destroy the answer on its way)."""
    left = MOST_FORGOTTEN_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FORGETTING_SECONDS):
            while left > 0:
                message = await receive()
                if not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


def _once(body: bytes, receive: Receive) -> Receive:
    """Gives the whole body, and then what the connection has to say."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
