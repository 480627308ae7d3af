"""The ground that fault tests share: one platform a module, whole again before each test."""

from collections.abc import AsyncIterator

import pytest

from infra.stack import Stack
from tests.faults.harness import Ground, a_ground


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before all that share another platform on the stack: two platforms would be one group and share the lanes."""
    items.sort(key=lambda item: "platform" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="module")
async def shared_ground(stack: Stack) -> AsyncIterator[Ground]:
    async with a_ground(stack) as ground:
        yield ground


@pytest.fixture(scope="module")
async def own_ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """A platform on a stack of its own: away from what other tests leave on the log, or must not find there."""
    async with Stack(tmp_path_factory.mktemp("own"), environment={}) as stack, a_ground(stack) as ground:
        yield ground


@pytest.fixture
async def ground(shared_ground: Ground) -> Ground:
    await shared_ground.made_whole()
    return shared_ground
