"""A service is away: within seconds the command names it, exactly the orders that it holds up, and what helps."""

import asyncio
import json
import os
import sys
from typing import Any

import psycopg
import pytest

from api.due import is_over
from api.late import LEARNED_FROM, UNKNOWN_SECONDS
from infra.kafka import Kafka
from pavane.overdue.reasons import LOG_AWAY, LOG_BACK
from streams.kit.run import services
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.faults.load import MOST_OPEN
from tests.waiting import eventually

#: So many have ended before: what is usual is learned of them, and not of what an earlier test has held up.
ENDED_FIRST = LEARNED_FROM * 11 // 10
#: Accepted while the service is away, and no more after them.
MORE_ORDERS = 30
ENDED_SECONDS = 60.0
NAMED_SECONDS = UNKNOWN_SECONDS + 45.0
STORIES = "SELECT order_id, array_agg(fact) FROM entries GROUP BY order_id"


async def overdue(ground: Ground, *words: str) -> tuple[int, dict[str, Any]]:
    """What `pavane overdue --json` says to an operator, and its exit code."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane", "overdue", "--json", *words),
        env={**os.environ, **ground.stack.addresses.environment()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    print(said.decode())  # noqa: T201
    return process.returncode or 0, json.loads(said)


async def unfinished(ground: Ground) -> set[str]:
    """The orders whose stories are not over, by what the timeline's database has told."""
    address = ground.stack.addresses.postgres["timeline"]
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        stories = await (await connection.execute(STORIES)).fetchall()
    return {order_id for order_id, facts in stories if not is_over(facts)}


async def named(ground: Ground) -> list[dict[str, Any]]:
    """The late orders, once they are exactly those that are held up."""
    code, said = await overdue(ground)
    late: list[dict[str, Any]] = said["overdue"]
    return late if code == 1 and {each["order_id"] for each in late} == await unfinished(ground) else []


async def open_to_connections(ground: Ground, database: str, is_open: str) -> None:
    """Whether anybody may connect to it; who was connected is not any more."""
    admin = ground.stack.addresses.postgres_admin
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        await connection.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {is_open}".encode())
        end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
        await connection.execute(end, (database,))


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("away", services())
async def test_a_service_that_is_away_is_named_with_exactly_the_orders_that_it_holds_up(
    ground: Ground, away: str, seed: int
) -> None:
    async with under_load(ground, seed, ENDED_FIRST) as load:
        await eventually(lambda: len(load.ended) >= ENDED_FIRST, ENDED_SECONDS, "what is usual can be learned")
        [process] = ground.running(away)
        process.kill()
        await load.accepted(load.placed + MORE_ORDERS)
        load.faults_are_over()  # no order beyond these
        assert not process.is_running
        # What the timeline does not hear anybody may seem to owe.
        owing = {away} if away != "timeline" else set(services())

        async def away_is_named() -> bool:
            late = await named(ground)
            return {each["remedy"] for each in late} == {f"pavane run {away}"} and {
                each["speaker"] for each in late
            } <= owing

        await eventually(away_is_named, NAMED_SECONDS, f"{away} is named, with just the orders that it holds up")
        _, said = await overdue(ground)
        without_story = [(each["service"], each["remedy"]) for each in said["unheard"]]
        assert without_story == ([(away, f"pavane run {away}")] if away in ("orders", "timeline") else [])

        async def told_to_the_shop() -> bool:
            told = (await load.shop.ask("GET", "/v1/overdue?limit=200")).json()["orders"]
            return {each["remedy"] for each in told} == {f"pavane run {away}"}

        await eventually(told_to_the_shop, NAMED_SECONDS, "the shop's operators are told the same")
        await ground.replace(away)
    code, said = await overdue(ground)
    assert (code, said["overdue"], said["unheard"]) == (0, [], [])


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_database_that_is_gone_is_a_reason_and_hides_no_other(ground: Ground, seed: int) -> None:
    async with under_load(ground, seed, ENDED_FIRST) as load:
        await eventually(lambda: len(load.ended) >= ENDED_FIRST, ENDED_SECONDS, "what is usual can be learned")
        [shipping] = ground.running("shipping")
        shipping.kill()
        await open_to_connections(ground, "billing", "false")
        await load.accepted(load.placed + MORE_ORDERS)
        load.faults_are_over()
        with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
            await ground.rows("billing", "SELECT 1, 1")

        async def both_are_named() -> bool:
            _, said = await overdue(ground)
            reasons = {each["speaker"]: (each["reason"], each["remedy"]) for each in said["overdue"]}
            if reasons.keys() != {"billing", "shipping"}:
                return False
            away, back = reasons["billing"]
            assert away == "its database cannot be asked", "it is there, and may be asked again"
            assert back.startswith("bring PostgreSQL back")
            return reasons["shipping"] == ("no process of shipping holds lanes 0, 1, 2, 3", "pavane run shipping")

        await eventually(both_are_named, NAMED_SECONDS, "billing's database and shipping are named")
        await open_to_connections(ground, "billing", "true")
        await ground.replace("shipping")


@pytest.fixture
def broker(ground: Ground) -> Kafka:
    if not ground.stack.kafka:
        pytest.skip("the broker is not ours to stop")
    [broker] = ground.stack.kafka
    return broker


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("ends", ["frozen", "killed"])
async def test_while_kafka_is_away_the_orders_are_told_all_the_same_and_kafka_is_the_reason(
    ground: Ground, broker: Kafka, ends: str, seed: int
) -> None:
    async with under_load(ground, seed, ENDED_FIRST) as load:
        await eventually(lambda: len(load.ended) >= ENDED_FIRST, ENDED_SECONDS, "what is usual can be learned")
        [shipping] = ground.running("shipping")
        shipping.kill()

        async def all_wait() -> bool:
            # No customer is asking for anything then, who would be told in vain to ask again.
            return load.placed - len(load.ended) >= MOST_OPEN and len(await unfinished(ground)) >= MORE_ORDERS

        await eventually(all_wait, ENDED_SECONDS, "orders wait, and nobody places more")
        if ends == "frozen":
            broker.pause()
        else:
            broker.kill()
        try:

            async def kafka_is_named() -> bool:
                return {(each["reason"], each["remedy"]) for each in await named(ground)} == {(LOG_AWAY, LOG_BACK)}

            await eventually(kafka_is_named, NAMED_SECONDS, "Kafka is named, with all orders that it holds up")
            _, said = await overdue(ground)
            assert {(each["service"], each["reason"]) for each in said["unheard"]} == {
                ("timeline", LOG_AWAY),
                ("orders", LOG_AWAY),
            }
        finally:
            if ends == "frozen":
                broker.resume()
            else:
                await broker.start()

        async def shipping_is_named() -> bool:
            _, said = await overdue(ground)
            return {each["remedy"] for each in said["overdue"]} == {"pavane run shipping"}

        await eventually(shipping_is_named, NAMED_SECONDS, "Kafka is back, and shipping is named")
        await ground.replace("shipping")
