"""Services that are killed in the middle of their work: at chosen points of it, and at random moments all at once."""

import asyncio
import random
import signal
from collections.abc import Mapping, Sequence

import pytest

from streams.kit.faultpoints import POINTS
from streams.kit.run import find, services
from tests.faults.harness import ALL, Ground, seeds, under_load

Deaths = Mapping[str, Sequence[str]]

#: By service: where its processes die, one after the other. One row is one load.
SHORT: Sequence[Deaths] = [
    {
        "orders": ["after-commit:2", "half-said:2"],
        "inventory": ["before-commit:2", "after-takeover:2"],
        "billing": ["after-ask:2", "after-said:2"],
        "timeline": ["after-fold:2"],
    },
]


def points_of(service: str) -> list[str]:
    """All points that a service comes to: not every one asks effects, and a view says nothing."""
    asks, says = bool(find(service).answering), not find(service).is_projection
    never = {*(() if asks else ("before-ask", "after-ask")), *(() if says else ("half-said", "after-said"))}
    return [f"{point}:2" for point in POINTS if point not in never]


DEATHS = [{service: points_of(service)} for service in services()] if ALL else SHORT
ROUNDS = 4 if ALL else 1
FIRST_ORDERS = 20
pytestmark = pytest.mark.timeout(900 if ALL else 240)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("deaths", DEATHS, ids="-".join)
async def test_services_that_die_at_their_fault_points_lose_and_double_nothing(
    ground: Ground, deaths: Deaths, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        await asyncio.gather(*(die_in_turn(ground, service, points) for service, points in deaths.items()))


async def die_in_turn(ground: Ground, service: str, points: Sequence[str]) -> None:
    """One process after the other, each with the death of the next point; then one that lives and takes over."""
    for point in points:
        await ground.died(await ground.replace(service, point), point)
    before = await ground.epochs(service)
    ground.launch(service)
    await ground.until_taken_over(service, before)


@pytest.mark.parametrize("seed", seeds())
async def test_all_services_killed_at_once_at_a_random_moment_lose_and_double_nothing(
    ground: Ground, seed: int
) -> None:
    moments = random.Random(seed)
    async with under_load(ground, seed) as load:
        for _ in range(ROUNDS):
            await load.accepted(load.placed + moments.randrange(10, 200))
            assert load.placed > len(load.ended), "no order was under way"
            before = {service: await kill_all(ground, service) for service in services()}
            await asyncio.gather(*(ground.until_taken_over(service, epochs) for service, epochs in before.items()))


async def kill_all(ground: Ground, service: str) -> Mapping[int, int]:
    """Kill every process of the service, and start one again. How often its lanes had been taken over by then."""
    for instance in ground.running(service):
        instance.kill()
        assert instance.child.poll() == -signal.SIGKILL
    before = await ground.epochs(service)
    ground.launch(service)
    return before
