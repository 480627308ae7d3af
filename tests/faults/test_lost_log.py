"""A topic comes back empty while orders flow. Nobody guesses: it is said, and one command says again what is kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from pavane.settled import wait_until_settled
from streams.kit.run import find, services
from streams.kit.shop import Shop
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.faults.load import Load
from tests.faults.test_lost_database import pavane
from tests.waiting import eventually

LOST = "billing"
FIRST_ORDERS, MORE_ORDERS = 300, 50
NOTICED_SECONDS = 90.0
SECONDS = 60.0
#: Longer than any of these tests takes.
KEEP_ALL = {"PAVANE_OUTBOX_KEEP_SECONDS": "3600"}
FORGOTTEN = """
    SELECT count(*), 0 FROM lanes l WHERE l.acknowledged > 0
       AND NOT EXISTS (SELECT FROM outbox o WHERE o.partition = l.partition AND o.number = 1)
"""
#: The services that hear what was lost, and the one that said it.
CONCERNED = {LOST, *(name for name in services() if LOST in find(name).topics)}
pytestmark = [pytest.mark.stack, LONG, pytest.mark.timeout(540)]


@pytest.fixture
async def shared_ground(own_ground: Ground) -> Ground:
    return own_ground


async def comes_back_empty(ground: Ground) -> None:
    client = AdminClient({"bootstrap.servers": ground.stack.addresses.kafka_bootstrap, "log_level": 0})
    for deleted in client.delete_topics([LOST], operation_timeout=10.0).values():
        await asyncio.to_thread(deleted.result, 10.0)
    await eventually(lambda: LOST not in client.list_topics(timeout=10.0).topics, SECONDS, "the topic is gone")
    code, said = await pavane(ground, "topics", "apply")
    assert (code, "1 made" in said) == (0, True), said


async def lanes(ground: Ground) -> list[dict[str, Any]]:
    _, said = await pavane(ground, "lanes", "list", "--json")
    listed: list[dict[str, Any]] = json.loads(said)["lanes"]
    return listed


async def until_noticed(ground: Ground) -> None:
    """Wait until somebody has stopped, and nobody goes on among those that are concerned."""

    async def is_noticed() -> bool:
        return {lane["service"] for lane in await lanes(ground) if lane["halted"]} == CONCERNED

    await eventually(is_noticed, NOTICED_SECONDS, f"{', '.join(sorted(CONCERNED))} stop")


@asynccontextmanager
async def selling(ground: Ground, seed: int) -> AsyncIterator[None]:
    """Orders flow while the block runs, and end as they may; nothing else is proven of them."""
    shop = Shop(ground.http, ground.platform.issuer, f"shop-{uuid4().hex[:10]}", patience_seconds=SECONDS)
    load = Load(shop, ground.stack.addresses.postgres["orders"], seed, FIRST_ORDERS)
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await load.accepted(FIRST_ORDERS)
        yield
        load.faults_are_over()
    assert load.wrong_ends() == []


@pytest.mark.parametrize("seed", seeds())
async def test_a_topic_that_comes_back_empty_is_said_again_by_its_service_and_no_order_is_lost(
    ground: Ground, seed: int
) -> None:
    await ground.ready(await ground.replace(LOST, environment=KEEP_ALL))
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        await comes_back_empty(ground)
        await until_noticed(ground)
        ended = len(load.ended)

        code, said = await pavane(ground, "log", "restore", LOST, "--reason", "the topic was deleted", "--yes")
        assert code == 0 and "will be said again: nothing is lost" in said, said
        await eventually(lambda: len(load.ended) > ended + MORE_ORDERS, NOTICED_SECONDS, "orders end again")
    assert [lane for lane in await lanes(ground) if lane["halted"]] == []


@pytest.mark.parametrize("seed", seeds())
async def test_what_nobody_holds_any_more_is_given_up_and_orders_go_on_without_it(ground: Ground, seed: int) -> None:
    async with selling(ground, seed):

        async def some_is_forgotten() -> bool:
            return await ground.rows(LOST, FORGOTTEN) == [(len(await ground.epochs(LOST)), 0)]

        await eventually(some_is_forgotten, SECONDS, "the outbox lets go of what was said")
        await comes_back_empty(ground)
        await until_noticed(ground)
        why = ("--reason", "the topic was deleted", "--yes")
        code, said = await pavane(ground, "log", "restore", LOST, *why)
        assert code == 2 and "are gone" in said and "--give-up" in said, said
        code, said = await pavane(ground, "log", "restore", LOST, *why, "--give-up")
        assert code == 0, said

    await wait_until_settled(ground.stack.addresses, SECONDS)
    assert [lane for lane in await lanes(ground) if lane["halted"]] == []
    code, said = await pavane(ground, "audit", "--json")
    [gaps] = [each["violations"] for each in json.loads(said)["verdicts"] if each["name"] == "sequences"]
    assert code == 1
    assert len(gaps) == len(await ground.epochs(LOST)) and all(f"facts of {LOST} are missing" in gap for gap in gaps)
    code, said = await pavane(ground, "replay", LOST)
    assert code == 2 and "needs the service's topic from its start" in said, said
    code, said = await pavane(ground, "rebuild", LOST)
    assert code == 2 and "a backup of billing that knows fact" in said, said
