"""The payment provider behind the guard: whatever happens to Redis and to owners, money moves once.

The provider's own records are the witness: each call is one row, and says whether it changed anything.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from msgspec.structs import replace

from streams.billing.provider import Authorized, Captured, Declined, Refunded
from streams.billing.service import billing
from streams.billing.simulator import SCRIPT
from streams.kit.effects import Guarded, guarded
from streams.kit.events import Answer, Effect
from streams.kit.policies import REDIS, world_of
from streams.kit.records import Records
from streams.kit.resilience import Dependency
from streams.kit.service import World
from streams.kit.simulation import DATABASE, SimulatedWorld
from tests.faulty_valkey import Fault, FaultyValkey, faulty_valkey
from tests.services.payments import LEASE_SECONDS, asked, authorize, capture, done, reverse, statuses

FAULTS: list[Fault] = [FaultyValkey.killed, FaultyValkey.paused, FaultyValkey.full, FaultyValkey.flushed]


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyValkey]:
    async with faulty_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
async def valkey(server: FaultyValkey) -> AsyncIterator[FaultyValkey]:
    await server.flushed()
    yield server
    await server.well()


class Provider:
    """The simulated provider. When it has done what was asked and nobody knows of it, the next of `mishaps` happens."""

    def __init__(self, provider: World, mishaps: list[Fault], valkey: FaultyValkey) -> None:
        self._provider = provider
        self._mishaps = mishaps
        self._valkey = valkey

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        answers = await self._provider.ask(effects)
        if self._mishaps:
            await self._mishaps.pop()(self._valkey)
        return answers


@asynccontextmanager
async def owner(valkey: FaultyValkey, world_database: str, mishaps: list[Fault]) -> AsyncIterator[Guarded]:
    """Billing's guard as one process has it."""
    policy = replace(REDIS, open_seconds=0.2)
    async with (
        SimulatedWorld.playing(SCRIPT, {DATABASE: world_database}) as simulated,
        Records.at(valkey.url, billing.name, 3600.0, LEASE_SECONDS, policy) as records,
    ):
        provider = Provider(simulated, mishaps, valkey)
        yield Guarded(billing, provider, Dependency(*world_of(billing.name)), records)


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_payment_is_taken_twice_whatever_redis_does(
    valkey: FaultyValkey, world_database: str, fault: Fault
) -> None:
    orders = [str(uuid4()) for _ in range(100)]
    kept, cancelled = orders[:50], orders[50:]
    mishaps: list[Fault] = []
    async with owner(valkey, world_database, mishaps) as one, owner(valkey, world_database, mishaps) as other:

        async def both(effects: Sequence[Effect]) -> set[type[Answer]]:
            """Both owners ask, each in its own order and twice, as after a lost batch."""
            asking = (each.ask(some) for each in (one, other) for some in (effects, effects[::-1]))
            return {type(answer) for answers in await asyncio.gather(*asking) for answer in answers}

        mishaps.append(fault)
        assert await both([authorize(order) for order in orders]) == {Authorized}
        assert not mishaps, "the fault came between the charge and its record"
        assert await both([capture(order) for order in orders]) == {Captured}
        await valkey.well()
        assert await both([capture(order) for order in orders]) == {Captured}
        await fault(valkey)
        assert await both([reverse(order) for order in cancelled]) == {Refunded}
        await valkey.well()
        assert await both([authorize(order) for order in cancelled]) == {Declined}

    assert await done(world_database, kept) == {"AuthorizePayment": [1], "CapturePayment": [1]}
    assert await done(world_database, cancelled) == {
        "AuthorizePayment": [1],
        "CapturePayment": [1],
        "ReversePayment": [1],
    }
    assert await statuses(world_database, orders) == {"captured": 50, "refunded": 50}


async def test_an_owner_killed_after_the_charge_is_followed_by_one_that_charges_nothing(
    valkey: FaultyValkey, world_database: str
) -> None:
    order = str(uuid4())
    command = [sys.executable, "-m", "tests.services.dying_payer", valkey.url, world_database, order]
    dying = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert dying.stdout is not None
    assert await dying.stdout.readline() == b"charged\n"
    dying.kill()
    assert await dying.wait() == -signal.SIGKILL
    record = f"pavane:effects:{{billing}}:{authorize(order).key}"
    assert str(await valkey.redis.get(record)).startswith("b'running"), "it died with its claim and no outcome"

    async with owner(valkey, world_database, []) as successor:
        (answer,) = await successor.ask([authorize(order)])
        assert isinstance(answer, Authorized)
        assert await asked(world_database, order) == 2
        assert await successor.ask([authorize(order)]) == [answer]
        assert await asked(world_database, order) == 2, "now there is a record"
    assert await done(world_database, [order]) == {"AuthorizePayment": [1]}


async def test_a_service_is_guarded_as_it_is_run(
    valkey: FaultyValkey, world_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE, world_database)
    order = str(uuid4())
    for _ in range(2):
        async with guarded(billing, valkey.url, keep_days=1.0) as world:
            (answer,) = await world.ask([authorize(order)])
            assert isinstance(answer, Authorized)
            assert [each.name for each in world.dependencies] == ["payment-provider", "redis"]
    assert await asked(world_database, order) == 1
    assert 86_000 < await valkey.redis.ttl(f"pavane:effects:{{billing}}:{authorize(order).key}") <= 86_400
