"""A proxy between one process and one of the parts that it needs; nobody else goes through it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from infra.addresses import KAFKA
from pavane.instance import Instance
from tests.faults.harness import Ground
from tests.faults.proxy import Proxy


@asynccontextmanager
async def proxied(ground: Ground, variable: str) -> AsyncIterator[tuple[Proxy, dict[str, str]]]:
    """A proxy to the part that this variable names, and the setting for who shall go through it."""
    address = ground.stack.addresses.environment()[variable]
    upstream = urlsplit(address if "://" in address else f"//{address}")
    assert upstream.hostname is not None and upstream.port is not None
    async with Proxy(upstream.hostname, upstream.port, advertises=variable == KAFKA) as proxy:
        through = address.replace(f"{upstream.hostname}:{upstream.port}", f"{proxy.host}:{proxy.port}")
        yield proxy, {variable: through}


@asynccontextmanager
async def behind_proxy(ground: Ground, service: str, variable: str) -> AsyncIterator[tuple[Proxy, Instance]]:
    """The service's only process, which reaches the part that this variable names through a proxy."""
    async with proxied(ground, variable) as (proxy, through):
        before = await ground.epochs(service)
        instance = await ground.replace(service, environment=through)
        await ground.until_taken_over(service, before)
        yield proxy, instance
