"""Processes of one service come, go and freeze while orders flow: the lane is of whom the group gave it to last."""

import asyncio

import psutil
import pytest

from streams.kit.run import services
from tests.faults.harness import ALL, Ground, seeds, under_load

FIRST_ORDERS = 40
ROUNDS = 3
AT_ONCE = 3
pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize("seed", seeds())
async def test_a_process_that_freezes_beyond_its_session_wakes_up_and_disturbs_nobody(
    ground: Ground, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        names, rounds = (services(), ROUNDS) if ALL else (["billing"], 1)
        await asyncio.gather(*(freeze_in_turn(ground, service, rounds) for service in names))


async def freeze_in_turn(ground: Ground, service: str, rounds: int) -> None:
    """The owner of the lanes freezes, another process takes them over, the owner wakes up and joins; then the other."""
    [owner] = ground.running(service)
    other = ground.launch(service)
    await ground.ready(other)
    for _ in range(rounds):
        before = await ground.epochs(service)
        owner.freeze()
        await ground.until_taken_over(service, before)
        assert psutil.Process(owner.pid).status() == psutil.STATUS_STOPPED, f"{owner.label} is awake"
        before = await ground.epochs(service)
        owner.thaw()
        await ground.until_taken_over(service, before)
        owner, other = other, owner


@pytest.mark.skipif(not ALL, reason="long, and takeovers are shown by the others: make faults")
@pytest.mark.parametrize("seed", seeds())
async def test_processes_that_join_and_leave_again_and_again_lose_and_double_nothing(ground: Ground, seed: int) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        await asyncio.gather(*(join_and_leave(ground, service, 1) for service in services()))


@pytest.mark.skipif(not ALL, reason="long, and takeovers are shown by the others: make faults")
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", services())
async def test_several_processes_that_join_and_leave_at_once_lose_and_double_nothing(
    ground: Ground, service: str, seed: int
) -> None:
    """Each join and each leave is a rebalance of its own, in the middle of the one before it."""
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        await join_and_leave(ground, service, AT_ONCE)


async def join_and_leave(ground: Ground, service: str, at_once: int) -> None:
    """So many processes more, and then no more; every time all lanes are taken over."""
    for _ in range(ROUNDS):
        before = await ground.epochs(service)
        more = [ground.launch(service) for _ in range(at_once)]
        await ground.until_taken_over(service, before)
        await asyncio.gather(*(ground.ready(each) for each in more))
        before = await ground.epochs(service)
        await asyncio.gather(*(each.stop() for each in more))
        await ground.until_taken_over(service, before)
