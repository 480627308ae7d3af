"""Processes of one service come, go and freeze while orders flow: the lane is of whom the group gave it to last."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import psutil
import psycopg
import pytest

from pavane.instance import Instance
from streams.kit.faultpoints import FREEZE
from streams.kit.kafka import KafkaLog
from streams.kit.log import ToSay
from streams.kit.run import find, services
from tests.faults.cluster import Cluster
from tests.faults.harness import ALL, LONG, SETTINGS, Ground, seeds, under_load
from tests.waiting import eventually

FIRST_ORDERS = 40
ROUNDS = 3
AT_ONCE = 3
#: Members that come and go, one right after the other.
GUESTS = 6
SECONDS = 60.0
#: A process freezes after one of its first commits. Not every one says something, so another may have to.
LAST_COMMIT, FREEZINGS = 20, 10
SPEAKERS = [name for name in services() if find(name).says]
#: What the last batch has said: its rows were written by the transaction that was the last to move a lane.
LAST_SAID = """
    SELECT partition, number, facts FROM outbox o JOIN lanes l USING (partition)
     WHERE o.xmin = l.xmin AND age(l.xmin) = (SELECT min(age(xmin)) FROM lanes)
"""
_facts = msgspec.msgpack.Decoder(list[ToSay])
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
        assert is_frozen(owner), f"{owner.label} is awake"
        before = await ground.epochs(service)
        owner.thaw()
        await ground.until_taken_over(service, before)
        owner, other = other, owner


def is_frozen(instance: Instance) -> bool:
    return bool(psutil.Process(instance.pid).status() == psutil.STATUS_STOPPED)


class Unsaid(NamedTuple):
    """What a process has committed and not said. `rows`: of the outbox, by lane; `ids`: of the facts in them."""

    rows: Mapping[int, int]
    ids: frozenset[bytes]


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", SPEAKERS)
async def test_what_a_frozen_owner_committed_its_successor_says_and_when_it_wakes_up_and_says_it_too_nothing_changes(
    ground: Ground, service: str, seed: int
) -> None:
    cluster = Cluster(ground.stack.addresses.kafka_bootstrap)
    since = await cluster.ends(service)
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        owner, unsaid = await frozen_before_it_says(ground, service, random.Random(seed))
        before = await ground.epochs(service)
        ground.launch(service)
        await ground.until_taken_over(service, before)

        async def is_acknowledged() -> bool:
            known = dict(await ground.rows(service, "SELECT partition, acknowledged FROM lanes"))
            return all(known[lane] >= number for lane, number in unsaid.rows.items())

        # From then on nobody who takes a lane over has a reason to say it again.
        await eventually(is_acknowledged, SECONDS, "the successor has said it, and knows it")
        said = Counter(each.id for each in await cluster.records(service, since))
        assert {said[each] for each in unsaid.ids} == {1}
        ends = await cluster.ends(service)
        assert is_frozen(owner), f"{owner.label} is awake"
        owner.thaw()

        async def is_said_again() -> bool:
            return unsaid.ids <= {each.id for each in await cluster.records(service, ends)}

        await eventually(is_said_again, SECONDS, f"{owner.label} says what it had committed")


async def frozen_before_it_says(ground: Ground, service: str, luck: random.Random) -> tuple[Instance, Unsaid]:
    """A process that stands still after a commit, and the facts in it."""
    for _ in range(FREEZINGS):
        owner = await ground.replace(service, f"after-commit:{luck.randint(1, LAST_COMMIT)}:{FREEZE}")
        await eventually(lambda it=owner: is_frozen(it), SECONDS, f"{owner.label} stands still")
        if (unsaid := await last_said(ground, service)).ids:
            return owner, unsaid
        owner.thaw()
    raise AssertionError(f"{service} said nothing in {FREEZINGS} commits")


async def last_said(ground: Ground, service: str) -> Unsaid:
    url = ground.stack.addresses.postgres[service]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        rows = await (await connection.execute(LAST_SAID)).fetchall()
    facts = [fact for _, _, encoded in rows for fact in _facts.decode(encoded) if fact.topic == service]
    return Unsaid({lane: number for lane, number, _ in rows}, frozenset(dict(fact.headers)["ce_id"] for fact in facts))


# -- coming and going ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not ALL, reason="long, and takeovers are shown by the others: make faults")
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", services())
async def test_rebalances_that_begin_before_the_last_one_is_settled_lose_and_double_nothing(
    ground: Ground, service: str, seed: int
) -> None:
    """A guest of the group is given lanes and takes none over: while it is there, the rebalance is not settled."""
    generations: list[int] = []
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        generations += [await be_a_guest(ground, service) for _ in range(GUESTS)]
        before = await ground.epochs(service)
        await ground.replace(service)
        await ground.until_taken_over(service, before)
    assert generations == sorted(set(generations)), "each was a member after another rebalance"


async def be_a_guest(ground: Ground, service: str) -> int:
    """Join the group, and leave it as soon as it has given lanes: its generation then."""
    session = int(SETTINGS["PAVANE_SESSION_TIMEOUT_MS"])
    guest = KafkaLog(ground.stack.addresses.kafka_bootstrap, service, find(service).topics, session)
    await guest.open()
    try:
        await eventually(guest.assigned, SECONDS, "the group gives it lanes")
        given = guest.assigned()
        before = await ground.epochs(service)
        generation = int(guest._consumer._coordinator.generation)
        now = await ground.epochs(service)
        assert all(now[lane] == before[lane] for lane in given), "somebody else works on its lanes"
        return generation
    finally:
        await guest.close()


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
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        await join_and_leave(ground, service, AT_ONCE)


async def join_and_leave(ground: Ground, service: str, at_once: int) -> None:
    """So many processes more, and then no more; every time all lanes are taken over."""
    first = await ground.epochs(service)
    for _ in range(ROUNDS):
        before = await ground.epochs(service)
        more = [ground.launch(service) for _ in range(at_once)]
        await ground.until_taken_over(service, before)
        await asyncio.gather(*(ground.ready(each) for each in more))
        before = await ground.epochs(service)
        await asyncio.gather(*(each.stop() for each in more))
        await ground.until_taken_over(service, before)
    last = await ground.epochs(service)
    assert all(last[lane] >= epoch + 2 * ROUNDS for lane, epoch in first.items()), "there were fewer takeovers"
