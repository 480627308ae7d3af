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
        "orders": ["after-commit", "half-said"],
        "inventory": ["before-commit", "after-takeover"],
        "billing": ["after-ask", "after-said"],
        "timeline": ["after-fold"],
    },
]
#: A process dies when it comes to its point for the n-th time: the seed says for which, up to this one,
LAST_TIME = 20 if ALL else 5
#: and to these it comes once a lane, or once in five seconds.
LAST_TIMES = {"after-takeover": 4, "before-forget": 2, "after-forget": 2}
OF_ASKING, OF_SAYING = {"before-ask", "after-ask"}, {"half-said", "after-said", "before-forget", "after-forget"}


def points_of(service: str) -> list[str]:
    """All points that a service comes to: not every one asks effects, and a view says nothing."""
    asks, says = bool(find(service).answering), not find(service).is_projection
    never = (set() if asks else OF_ASKING) | (set() if says else OF_SAYING)
    return [point for point in POINTS if point not in never]


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
        await asyncio.gather(*(die_in_turn(ground, service, points, seed) for service, points in deaths.items()))


async def die_in_turn(ground: Ground, service: str, points: Sequence[str], seed: int) -> None:
    """One process after the other, each with the death of the next point; then one that lives and takes over."""
    luck = random.Random(f"{seed}/{service}")
    for point in points:
        at = f"{point}:{luck.randint(1, LAST_TIMES.get(point, LAST_TIME))}"
        await ground.died(await ground.replace(service, at), at)
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
