"""PostgreSQL is killed, or ends connections, while orders flow."""

import asyncio
from collections.abc import Mapping

import psycopg
import pytest

from infra.postgres import Postgres
from streams.kit.run import services
from tests.faults.harness import ALL, LONG, Ground, seeds, under_load
from tests.waiting import eventually

FIRST_ORDERS = 40
NOTICED_SECONDS = 60.0
ROUNDS = 20 if ALL else 8
RECOVERED = "database system was not properly shut down; automatic recovery in progress"
END_TRANSACTIONS = """
    SELECT count(*) FROM (SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
     WHERE application_name = 'pavane-worker' AND xact_start IS NOT NULL) e WHERE ended
"""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(ground: Ground) -> Postgres:
    if ground.stack.postgres is None:
        pytest.skip("the server is not ours to kill")
    return ground.stack.postgres


async def all_epochs(ground: Ground) -> Mapping[str, Mapping[int, int]]:
    return {service: await ground.epochs(service) for service in services()}


async def until_all_taken_over(ground: Ground, before: Mapping[str, Mapping[int, int]]) -> None:
    await asyncio.gather(*(ground.until_taken_over(service, epochs) for service, epochs in before.items()))


async def is_away(ground: Ground, service: str) -> bool:
    """Whether the service's only process says that it misses its database."""
    [instance] = ground.running(service)
    health = await instance.health()
    return health is not None and any("database" in each for each in health["away"])


@pytest.mark.parametrize("seed", seeds())
async def test_a_database_server_that_is_killed_has_all_that_it_committed_when_it_is_back(
    ground: Ground, server: Postgres, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        before = await all_epochs(ground)
        server.kill()
        assert not server.is_running
        for service in services():
            await eventually(lambda it=service: is_away(ground, it), NOTICED_SECONDS, f"{service} misses its database")
        await server.start()
        await until_all_taken_over(ground, before)
        assert RECOVERED in server.log_file.read_text()


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_connections_that_are_ended_in_the_middle_of_transactions_lose_and_double_nothing(
    ground: Ground, server: Postgres, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        async with await psycopg.AsyncConnection.connect(server.admin_url, autocommit=True) as admin:

            async def some_ended() -> bool:
                [ended] = await (await admin.execute(END_TRANSACTIONS)).fetchone() or (0,)
                return bool(ended)

            for _ in range(ROUNDS):
                await eventually(some_ended, NOTICED_SECONDS, "a worker is in a transaction, and its connection ends")
