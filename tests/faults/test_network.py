"""One service is cut off from one of the parts that it needs, or far from it, told or not, while orders flow."""

import asyncio
from collections.abc import Sequence

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from infra.addresses import KAFKA, REDIS, database_variable
from pavane.instance import Instance
from streams.kit.run import find, services
from tests.faults.between import behind_proxy
from tests.faults.harness import ALL, LONG, Ground, seeds, under_load
from tests.faults.proxy import ANSWERS, BOTH, QUESTIONS, Proxy
from tests.waiting import eventually

FIRST_ORDERS = 40
NOTICED_SECONDS = 60.0
#: Stalls until one of them meets what the test is about; about every second one does.
STALLS = 100
#: Orders that must end while a part is slow, or one that is not needed is away.
ENDED_MEANWHILE = 100
#: Each way. There and back is longer than Redis is waited for; the others are.
SLOW_SECONDS = 0.2
#: Chunks that must have been delayed, each way.
LATE_CHUNKS = 5
ASKS_EFFECTS = [name for name in services() if find(name).answering]
SLOW = [
    *((service, part) for service in services() for part in ("database", "log")),
    *((service, "redis") for service in ASKS_EFFECTS),
]
pytestmark = pytest.mark.timeout(300)


# -- the database -----------------------------------------------------------------------------------------------------


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", services())
async def test_commits_that_were_made_and_never_answered_are_known_again(
    ground: Ground, service: str, seed: int
) -> None:
    async with behind_proxy(ground, service, database_variable(service)) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            await stall_a_commit(ground, proxy, service)
            proxy.cut()
            await eventually(lambda: is_away(instance), NOTICED_SECONDS, f"{service} knows that its database is away")
            before = await ground.epochs(service)
            proxy.let_through()
            await ground.until_taken_over(service, before)
        assert instance.is_running


async def stall_a_commit(ground: Ground, proxy: Proxy, service: str) -> None:
    """Return when the database has made a commit whose answer is kept back."""
    heard = "SELECT sum(value::bigint), 0 FROM lanes, jsonb_each_text(positions)"
    for _ in range(STALLS):
        held = proxy.held[ANSWERS]
        proxy.stall(ANSWERS)
        before = await ground.rows(service, heard)
        await eventually(lambda held=held: proxy.held[ANSWERS] > held, what="an answer is kept back")
        if await ground.rows(service, heard) > before:
            return
        proxy.let_through()
    raise AssertionError(f"none of {STALLS} stalls kept back the answer to a commit")


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", [name for name in services() if find(name).shares] if ALL else ["inventory"])
async def test_a_transaction_stalled_beyond_its_timeout_is_ended_and_its_records_are_heard_again(
    ground: Ground, service: str, seed: int
) -> None:
    async with behind_proxy(ground, service, database_variable(service)) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            await stall_a_transaction(ground, proxy, service)
            await eventually(lambda: has_no_session(ground, service), NOTICED_SECONDS, "the database ended the session")
            before = await ground.epochs(service)
            proxy.let_through()
            await ground.until_taken_over(service, before)
        assert instance.is_running


SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pavane-worker'"


async def stall_a_transaction(ground: Ground, proxy: Proxy, service: str) -> None:
    """Return when a transaction is open, holds its locks, and nothing passes either way any more."""
    for _ in range(STALLS):
        held = proxy.held[QUESTIONS]
        proxy.stall(QUESTIONS)
        await eventually(lambda held=held: proxy.held[QUESTIONS] > held, what="a question is kept back")
        if await ground.rows(service, f"SELECT 1, 0 {SESSIONS} AND state = 'idle in transaction'"):
            proxy.stall(ANSWERS)
            return
        proxy.let_through()
    raise AssertionError(f"none of {STALLS} stalls met an open transaction")


async def has_no_session(ground: Ground, service: str) -> bool:
    return not await ground.rows(service, f"SELECT 1, 0 {SESSIONS}")


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", [name for name in services() if not find(name).shares])
async def test_questions_that_the_database_never_gets_are_given_up_and_asked_again(
    ground: Ground, service: str, seed: int
) -> None:
    """When all is well again they arrive after all, beside those of who took the lanes meanwhile."""
    async with behind_proxy(ground, service, database_variable(service)) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            proxy.stall(QUESTIONS)
            await eventually(lambda: proxy.held[QUESTIONS] > 0, NOTICED_SECONDS, "a question is kept back")
            await eventually(lambda: is_away(instance), NOTICED_SECONDS, f"{service} knows that its database is away")
            assert '"database_hung_up"' in instance.log_file.read_text()
            before = await ground.epochs(service)
            proxy.let_through()
            await ground.until_taken_over(service, before)
        assert proxy.held[ANSWERS] == 0, "the answers were cut as well"
        assert instance.is_running


# -- the log ----------------------------------------------------------------------------------------------------------


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("directions", [BOTH, [QUESTIONS], [ANSWERS]] if ALL else [BOTH], ids="-".join)
@pytest.mark.parametrize("service", services() if ALL else ["shipping"])
async def test_a_service_that_the_log_does_not_hear_of_for_a_session_takes_its_lanes_again(
    ground: Ground, service: str, directions: Sequence[str], seed: int
) -> None:
    """While its answers alone are kept back the group still hears of it: then it is its own requests that time out."""
    async with behind_proxy(ground, service, KAFKA) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            proxy.stall(*directions)
            await eventually(lambda: is_group_empty(ground, service), NOTICED_SECONDS, f"{service} is out of its group")
            before = await ground.epochs(service)
            proxy.let_through()
            await ground.until_taken_over(service, before)
        assert any(proxy.held[direction] > 0 for direction in directions), "the stall concerned nobody"
        assert instance.is_running


async def is_group_empty(ground: Ground, service: str) -> bool:
    client = AdminClient({"bootstrap.servers": ground.stack.addresses.kafka_bootstrap, "log_level": 0})
    [found] = client.describe_consumer_groups([service]).values()
    group = await asyncio.to_thread(found.result, 10.0)
    return bool(group.state == ConsumerGroupState.EMPTY)


# -- the records of effects -------------------------------------------------------------------------------------------


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", ["billing", "shipping"] if ALL else ["billing"])
async def test_effects_go_on_while_their_records_do_not_answer(ground: Ground, service: str, seed: int) -> None:
    async with behind_proxy(ground, service, REDIS) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            proxy.stall(*BOTH)
            await eventually(lambda: is_degraded(instance), NOTICED_SECONDS, f"{service} knows that Redis is away")
            enough = len(load.ended) + ENDED_MEANWHILE
            await eventually(lambda: len(load.ended) > enough, NOTICED_SECONDS, "orders end all the same")
            assert await is_degraded(instance), "the stall was over before"
            proxy.let_through()

            async def is_well() -> bool:
                return not await is_degraded(instance)

            await eventually(is_well, NOTICED_SECONDS, f"{service} asks Redis again")
        assert proxy.held[QUESTIONS] > 0


async def is_degraded(instance: Instance) -> bool:
    health = await instance.health()
    return health is not None and "redis" in health["degraded"]


# -- anything ---------------------------------------------------------------------------------------------------------


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(("service", "part"), SLOW)
async def test_a_part_that_answers_slowly_slows_its_service_and_nothing_else_happens(
    ground: Ground, service: str, part: str, seed: int
) -> None:
    async with behind_proxy(ground, service, variable_of(service, part)) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            proxy.slow(SLOW_SECONDS)
            enough = len(load.ended) + ENDED_MEANWHILE
            await eventually(lambda: len(load.ended) > enough, NOTICED_SECONDS, "orders end all the same")
            await eventually(lambda: min(proxy.delayed.values()) >= LATE_CHUNKS, NOTICED_SECONDS, "chunks are delayed")
            proxy.let_through()
        assert instance.is_running


def variable_of(service: str, part: str) -> str:
    return {"database": database_variable(service), "log": KAFKA, "redis": REDIS}[part]


@pytest.mark.skipif(not ALL, reason="long, and the others show the worst of it: make faults")
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("part", ["database", "log"])
@pytest.mark.parametrize("service", services())
async def test_a_service_that_is_cut_off_says_so_and_comes_back_by_itself(
    ground: Ground, service: str, part: str, seed: int
) -> None:
    async with behind_proxy(ground, service, variable_of(service, part)) as (proxy, instance):
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            proxy.cut()
            await eventually(lambda: is_away(instance), NOTICED_SECONDS, f"{service} knows that its {part} is away")
            await eventually(lambda: proxy.refused, NOTICED_SECONDS, "it tries to come back")
            proxy.let_through()
            await eventually(lambda: is_ready(instance), NOTICED_SECONDS, f"{service} is ready again")
        assert instance.is_running


async def is_away(instance: Instance) -> bool:
    """Whether it says that it misses something that it cannot work without."""
    health = await instance.health()
    return health is not None and not health["ready"] and bool(health["away"])


async def is_ready(instance: Instance) -> bool:
    health = await instance.health()
    return health is not None and bool(health["ready"])
