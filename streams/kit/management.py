"""The management port of a process: `/metrics`, `/health/live` and `/health/ready`, on a thread of its own.

A thread, so that a blocked event loop can still be asked, and is seen: `live` fails when the loop has not turned for
`LOOP_SECONDS`; after `BLOCKED_TICKS` seconds already the log says where it stands. `ready` says what is missing.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from prometheus_client import make_wsgi_app

from streams.kit.liveness import stack_of
from streams.kit.logs import logger

LOOP_SECONDS = 30.0
BLOCKED_TICKS = 5
TICK_SECONDS = 1.0
Readiness = Callable[[], Mapping[str, Any]]


class Management:
    """Serves the port until `close`. `readiness` gives a JSON object with at least `ready`; called from a thread."""

    def __init__(self, host: str, port: int, readiness: Readiness) -> None:
        self._readiness = readiness
        self._metrics = make_wsgi_app()
        self._turned = time.monotonic()
        self._server = make_server(host, port, self._answer, server_class=_Threading, handler_class=_Silent)
        self._pulse = asyncio.create_task(self._beat(), name="management-pulse")
        self._closed = threading.Event()
        threading.Thread(target=self._server.serve_forever, name="management", daemon=True).start()
        words = (threading.get_ident(),)
        threading.Thread(target=self._watch_loop, args=words, name="loop-watch", daemon=True).start()

    @property
    def address(self) -> str:
        """host:port."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def close(self) -> None:
        self._closed.set()
        self._pulse.cancel()
        threading.Thread(target=self._server.shutdown, daemon=True).start()
        self._server.server_close()

    async def _beat(self) -> None:
        while True:
            self._turned = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)

    def _watch_loop(self, thread: int) -> None:
        """Log where the loop's thread stands, once each time that the loop does not turn."""
        seen, still = self._turned, 0
        # Ticks, not times: a process that was frozen as a whole was not blocked.
        while not self._closed.wait(TICK_SECONDS):
            turned = self._turned
            seen, still = turned, (still + 1 if turned == seen else 0)
            if still == BLOCKED_TICKS:
                idle = round(time.monotonic() - turned, 1)
                logger().error("loop_blocked", loop_idle_seconds=idle, stack=stack_of(thread))

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return cast("Iterable[bytes]", self._metrics(environ, start))
            case "/health/live":
                idle = time.monotonic() - self._turned
                alive = idle < LOOP_SECONDS
                return _json(start, alive, {"live": alive, "loop_idle_seconds": round(idle, 1)})
            case "/health/ready":
                state = self._readiness()
                return _json(start, bool(state["ready"]), state)
            case _:
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"here are /metrics, /health/live and /health/ready\n"]


def _json(start: Callable[..., Any], good: bool, document: Mapping[str, Any]) -> list[bytes]:
    start("200 OK" if good else "503 Service Unavailable", [("Content-Type", "application/json")])
    return [msgspec.json.encode(document)]


class _Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Health checks are not worth a log line."""
