"""The gateway dies in the middle of requests, and its customers ask again under the same Idempotency-Key."""

import asyncio
import signal

import pytest

from pavane.instance import GATEWAY
from tests.faults.harness import Ground, seeds, under_load
from tests.waiting import eventually

ROUNDS = 3
FIRST_ORDERS = 50
BACK_SECONDS = 60.0
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("seed", seeds())
async def test_a_gateway_killed_in_the_middle_of_requests_loses_no_order_and_places_none_twice(
    ground: Ground, seed: int
) -> None:
    supervising = asyncio.create_task(ground.platform.supervise(lambda words: None))
    try:
        async with under_load(ground, seed) as load:
            for _ in range(ROUNDS):
                await load.accepted(load.placed + FIRST_ORDERS)
                asked_again = load.asked_again
                [gateway] = ground.running(GATEWAY)
                gateway.child.kill()
                assert gateway.child.poll() == -signal.SIGKILL
                # A till was in the middle of a request, or came while nobody was there.
                await eventually(
                    lambda before=asked_again: load.asked_again > before, BACK_SECONDS, "a customer asks again"
                )
                placed = load.placed
                await eventually(
                    lambda before=placed: load.placed > before, BACK_SECONDS, "customers are served again"
                )
    finally:
        supervising.cancel()
