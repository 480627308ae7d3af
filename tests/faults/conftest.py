"""The ground that fault tests share: one platform a module, whole again before each test."""

from collections.abc import AsyncIterator

import httpx
import pytest

from infra.stack import Stack
from pavane.platform import Platform
from tests.faults.harness import SETTINGS, Ground


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before all that share another platform on the stack: two platforms would be one group and share the lanes."""
    items.sort(key=lambda item: "platform" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="module")
async def shared_ground(stack: Stack) -> AsyncIterator[Ground]:
    async with (
        Platform(stack, environment=SETTINGS) as own_platform,
        httpx.AsyncClient(base_url=own_platform.gateway_url, timeout=20.0) as http,
    ):
        yield Ground(stack, own_platform, http)


@pytest.fixture
async def ground(shared_ground: Ground) -> Ground:
    await shared_ground.made_whole()
    return shared_ground
