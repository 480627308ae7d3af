"""The ground that fault tests share: one platform, whole again before each test, and another when its log is long.

Each test's audit goes on where the last one came to; at the end everything is audited once more from the start.
"""

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from infra.stack import Stack
from tests.faults.harness import Ground, a_ground, audited_at_rest, seeds

#: Each test compares all rows with the log: those of so many orders take some seconds.
MOST_ORDERS = 20_000


@pytest.fixture(params=seeds())
def luck(request: pytest.FixtureRequest) -> random.Random:
    """What a test without a load leaves to chance, from its seed. SEEDS=n repeats the test with as many."""
    return random.Random(request.param)


class Grounds:
    """One ground after another: the first on the stack of all tests, later ones on stacks of their own."""

    def __init__(self, first: Stack, folders: pytest.TempPathFactory) -> None:
        self._stack = first
        self._folders = folders
        self._ground: Ground | None = None
        self._open = AsyncExitStack()

    async def current(self) -> Ground:
        """A ground whose log is not too long."""
        if self._ground is None:
            self._ground = await self._open.enter_async_context(a_ground(self._stack))
        elif self._ground.orders > MOST_ORDERS and self._stack.kafka:
            await self.close()
            folder = self._folders.mktemp("next")
            self._open.callback(shutil.rmtree, folder, ignore_errors=True)
            self._stack = await self._open.enter_async_context(Stack(folder, environment={}))
            self._ground = await self._open.enter_async_context(a_ground(self._stack))
        return self._ground

    async def close(self) -> None:
        """Audit all of it, then end the platform, and its stack if that is not the first."""
        if self._ground is not None and self._ground.orders:
            await self._ground.made_whole()
            await audited_at_rest(self._ground.stack.addresses)
        await self._open.aclose()
        self._ground = None


@pytest.fixture(scope="package")
async def grounds(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grounds]:
    """No other test here starts a platform on these stacks: two would be one group, and share the lanes."""
    grounds = Grounds(stack, tmp_path_factory)
    yield grounds
    await grounds.close()


@pytest.fixture
async def shared_ground(grounds: Grounds) -> Ground:
    return await grounds.current()


@pytest.fixture(scope="module")
async def own_ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """A platform on a stack of its own: away from what other tests leave on the log, or must not find there."""
    async with Stack(tmp_path_factory.mktemp("own"), environment={}) as stack, a_ground(stack) as ground:
        yield ground


@pytest.fixture
async def ground(shared_ground: Ground) -> Ground:
    await shared_ground.made_whole()
    return shared_ground
