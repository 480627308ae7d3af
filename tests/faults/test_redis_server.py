"""Redis forgets everything, dies, stands still or is full, while orders flow: no second charge, no second order."""

from uuid import uuid4

import pytest

from tests.faults.harness import ALL, Ground, seeds, under_load
from tests.faulty_valkey import Fault, FaultyValkey
from tests.waiting import eventually

FIRST_ORDERS = 40
ENDED_MEANWHILE = 100
SECONDS = 60.0


async def flushed(valkey: FaultyValkey) -> None:
    """Everything forgotten; others may have written something new since."""
    await valkey.redis.set("before", "1")
    await valkey.redis.flushall()
    assert await valkey.redis.get("before") is None


FAULTS: list[Fault] = [flushed, FaultyValkey.killed, FaultyValkey.paused, FaultyValkey.full]
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("fault", FAULTS if ALL else [flushed])
async def test_without_redis_orders_go_on_and_none_is_placed_or_paid_twice(
    ground: Ground, fault: Fault, seed: int
) -> None:
    """The audit counts the charges at the provider. The retry under a key that Redis lost names the same order."""
    if ground.stack.valkey is None:
        pytest.skip("the server is not ours to break")
    valkey, key = FaultyValkey(ground.stack.valkey), uuid4().hex
    try:
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            order = await load.shop.place(sku="lamp", key=key)
            assert await valkey.redis.dbsize() > 0, "there was something to lose"
            await fault(valkey)
            enough = len(load.ended) + ENDED_MEANWHILE
            await eventually(lambda: len(load.ended) > enough, SECONDS, "orders end all the same")
            assert await load.shop.place(sku="lamp", key=key) == order
            await valkey.well()
            assert await load.shop.place(sku="lamp", key=key) == order
            shown = await load.shop.settled(order)
            assert len(shown.facts) == len(set(shown.facts)), "a fact was said twice"
            assert shown.facts.count("OrderPlaced") == 1
    finally:
        await valkey.well()
        await valkey.redis.aclose()
