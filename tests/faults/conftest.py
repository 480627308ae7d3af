"""The ground that fault tests share: one platform, whole again before each test."""

import random
from collections.abc import AsyncIterator

import pytest

from infra.stack import Stack
from tests.faults.harness import Ground, a_ground, seeds


@pytest.fixture(params=seeds())
def luck(request: pytest.FixtureRequest) -> random.Random:
    """What a test without a load leaves to chance, from its seed. SEEDS=n repeats the test with as many."""
    return random.Random(request.param)


@pytest.fixture(scope="package")
async def shared_ground(stack: Stack) -> AsyncIterator[Ground]:
    """No other test here starts a platform on this stack: two would be one group, and share the lanes."""
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
