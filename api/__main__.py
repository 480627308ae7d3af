"""`python -m api`: the gateway as a process.

Says `{"event": "listening", "address": ...}` on standard output when it takes requests, and logs JSON lines on standard
error. SIGTERM and SIGINT: takes no more, answers what is under way, and ends within five seconds with status 0.
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop

from api.app import parts, served
from api.gateway import Gateway
from api.settings import GatewaySettings
from api.wire import bounded, most_by_files
from streams.kit.errors import PavaneError, WrongSetting
from streams.kit.logs import set_up

GRACE_SECONDS = 2


class Server(uvicorn.Server):
    """Says where it listens once it does, and lets streams end before it does. Its signals are handled by the loop, so
    that it ends with status 0."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Before the connections are waited for: a stream would go on until it is cut off.
        self._gateway.feed.hang_up()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            sys.stdout.write(json.dumps({"event": "listening", "address": f"http://{host}:{port}"}) + "\n")
            sys.stdout.flush()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def main() -> None:
    try:
        settings = GatewaySettings.read()
        set_up("gateway", settings.log_level)
        gateway = parts(settings)
        application = served(gateway, settings)
        listener = _listen(settings.gateway_host, settings.gateway_port)
    except PavaneError as error:
        sys.exit(f"gateway: {error}")
    config = uvicorn.Config(
        application,
        http=bounded(settings.gateway_connections_of_an_address, most_by_files()),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )
    uvloop.run(Server(config, gateway).serve(sockets=[listener]))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        raise WrongSetting(
            f"PAVANE_GATEWAY_PORT {port} on PAVANE_GATEWAY_HOST {host}: cannot be listened on: {error.strerror}. "
            f"Take another port, or 0 for a free one."
        ) from None


if __name__ == "__main__":
    main()
