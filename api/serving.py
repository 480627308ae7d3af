"""Serves an application as a process: says where it listens, takes requests, and ends when asked.

Says `{"event": "listening", "address": ...}` on standard output when it takes requests, and logs JSON lines on standard
error. SIGTERM and SIGINT: takes no more, answers what is under way, and ends within five seconds with status 0.
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from starlette.types import ASGIApp

from api.wire import bounded, most_by_files
from streams.kit.collecting import collect_seldom
from streams.kit.errors import WrongSetting

GRACE_SECONDS = 2


class Server(uvicorn.Server):
    """Says where it listens once it does. Its signals are handled by the loop, so that it ends with status 0."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        collect_seldom()
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            sys.stdout.write(json.dumps({"event": "listening", "address": f"http://{host}:{port}"}) + "\n")
            sys.stdout.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def serve(
    application: ASGIApp,
    listener: socket.socket,
    connections_of_an_address: int = 0,
    ending: Callable[[], None] = lambda: None,
) -> None:
    """Serve until asked to end. `ending` is called then, before those that are connected are waited for."""
    config = uvicorn.Config(
        application,
        http=bounded(connections_of_an_address, most_by_files()),
        # Whatever is installed beside it: there is nothing at the end of a web socket, and no bounds on one.
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )
    uvloop.run(Server(config, ending).serve(sockets=[listener]))


def listen(host: str, port: int, what: str) -> socket.socket:
    """Raises `WrongSetting`, which names PAVANE_<what>_PORT."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        raise WrongSetting(
            f"PAVANE_{what}_PORT {port} on PAVANE_{what}_HOST {host}: cannot be listened on: {error.strerror}. "
            f"Take another port, or 0 for a free one."
        ) from None
