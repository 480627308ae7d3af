"""What stories are told with: the whole platform as processes on the session's stack, and shops on it."""

import os
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import httpx
import pytest

from infra.stack import Stack
from pavane.audit import audit
from pavane.platform import Platform
from streams.kit.testing import Shop
from tests.stories.records import Records

#: The shortest that the broker allows: a story about an owner that went silent need not wait longer.
SESSION_TIMEOUT_MS = 6_000

NewShop = Callable[..., Shop]


@pytest.fixture(scope="session")
async def platform(stack: Stack) -> AsyncIterator[Platform]:
    """All services and the gateway, each as one process; a story that starts more or ends some says so. All stories
    together have broken no invariant, and left nothing on its way."""
    environment = {"PAVANE_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS)}
    async with Platform(stack, environment=environment) as platform:
        yield platform
        await platform.settled()
        report = await audit({**os.environ, **stack.addresses.environment()})
        assert {verdict.name: verdict.violations for verdict in report.verdicts if not verdict.clean} == {}
        assert report.unsettled == 0, {verdict.name: verdict.unsettled for verdict in report.verdicts}


@pytest.fixture(scope="session")
async def new_shop(platform: Platform) -> AsyncIterator[NewShop]:
    """`new_shop()`: a shop with a tenant of its own, so that no story sees another's goods."""
    async with httpx.AsyncClient(base_url=platform.gateway_url, timeout=10.0) as http:

        def new(patience_seconds: float = 20.0) -> Shop:
            return Shop(http, platform.issuer, f"shop-{uuid4().hex[:10]}", patience_seconds)

        yield new


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    return new_shop()


@pytest.fixture
def records(stack: Stack) -> Records:
    return Records(stack.addresses.postgres)
