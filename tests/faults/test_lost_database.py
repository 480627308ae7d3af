"""A service's database is dropped, or an older copy of it is put back, while orders flow.

The worker refuses to guess and names the command; the command makes the tables again from the log; what waited goes on.
"""

import asyncio
import os
import re
import sys
from collections.abc import Mapping

import psycopg
import pytest

from pavane.instance import LaneHalted
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.waiting import eventually

FIRST_ORDERS = 40
MORE_ORDERS = 30
#: The copies are made a moment after it was looked at what was said.
ROWS_BEYOND = 20
NOTICED_SECONDS = 90.0
#: What `--swap` promises, and the one time that a test here holds anything to.
PROMISED_PAUSE_SECONDS = 1.0
#: Nobody listens there.
NO_PROVIDER = {"PAVANE_PAYMENT_PROVIDER": "http://127.0.0.1:9"}
PARKED = "SELECT count(*), 0 FROM parked WHERE holds"
SAID = "SELECT partition, outbox_row FROM lanes"
ON_THE_LOG = "SELECT partition, acknowledged FROM lanes"
REBUILDS = "SELECT count(*), 0 FROM operations WHERE what = 'rebuild' AND outcome LIKE 'changed over%%'"
pytestmark = pytest.mark.timeout(540)


async def pavane(ground: Ground, *words: str) -> tuple[int, str]:
    """The command as an operator gives it: its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane", *words),
        env={**os.environ, **ground.stack.addresses.environment()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    print(said.decode())  # noqa: T201
    return process.returncode or 0, said.decode()


async def admin(ground: Ground, *statements: str) -> None:
    address = ground.stack.addresses.postgres_admin
    async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement.encode())


async def until_it_says(ground: Ground, service: str, what: str) -> None:
    """Wait until the service's only process says so to whoever asks whether it is ready."""

    async def is_said() -> bool:
        [instance] = ground.running(service)
        try:
            health = await instance.health()
        except LaneHalted as halted:
            return what in str(halted)
        return health is not None and what in str(health["away"])

    await eventually(is_said, NOTICED_SECONDS, f"{service} says: {what}")


async def is_listed(ground: Ground, service: str) -> bool:
    """Whether `pavane lanes list` says that the database is an older one."""
    code, said = await pavane(ground, "lanes", "list", service)
    return code == 1 and "it is an older one" in said


async def has_said_more(ground: Ground, service: str, before: Mapping[int, int]) -> bool:
    """Whether the log has more of the service's rows in some lane than its copy can know of."""
    on_the_log = dict(await ground.rows(service, ON_THE_LOG))
    return any(on_the_log[lane] >= row + ROWS_BEYOND for lane, row in before.items())


async def rebuilds(ground: Ground, service: str) -> int:
    """How often the service's database was changed over."""
    [(count, _)] = await ground.rows(service, REBUILDS)
    return count


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_database_that_is_dropped_comes_back_from_the_log_with_what_was_parked(
    ground: Ground, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        await ground.replace("billing", environment=NO_PROVIDER)

        async def some_parked() -> bool:
            return (await ground.rows("billing", PARKED))[0][0] >= 5

        await eventually(some_parked, NOTICED_SECONDS, "payments wait for their provider")
        [(parked, _)] = await ground.rows("billing", PARKED)
        # What is parked and not on the log yet would be heard again instead.
        said = dict(await ground.rows("billing", SAID))

        async def on_the_log() -> bool:
            return all(number >= said[lane] for lane, number in await ground.rows("billing", ON_THE_LOG))

        await eventually(on_the_log, NOTICED_SECONDS, "the dead letters are on the log")
        await admin(ground, "DROP DATABASE billing WITH (FORCE)")
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            await ground.rows("billing", PARKED)

        await until_it_says(ground, "billing", "pavane rebuild billing")
        await ground.replace("billing")
        code, words = await pavane(ground, "rebuild", "billing", "--swap", "--yes", "--reason", "it was dropped")

        assert code == 0, words
        assert "it was made again, empty" in words
        assert sum(map(int, re.findall(r"(\d+) records are parked as before", words))) >= parked
        assert await rebuilds(ground, "billing") == 1, "of the database that was dropped nothing is left"


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_an_older_copy_of_a_database_is_refused_and_made_again_from_the_log(ground: Ground, seed: int) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        copied = {service: dict(await ground.rows(service, SAID)) for service in ("orders", "inventory")}
        rebuilt = {service: await rebuilds(ground, service) for service in copied}
        for service in ("orders", "inventory"):
            await admin(
                ground,
                f"ALTER DATABASE {service} ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{service}'",
                f"CREATE DATABASE {service}_copy TEMPLATE {service} OWNER {service}",
                f"ALTER DATABASE {service} ALLOW_CONNECTIONS true",
            )
        await load.accepted(load.placed + MORE_ORDERS)
        for service, before in copied.items():
            await eventually(lambda it=service, at=before: has_said_more(ground, it, at), NOTICED_SECONDS, service)
        for service in ("orders", "inventory"):
            await admin(
                ground,
                f"DROP DATABASE {service} WITH (FORCE)",
                f"ALTER DATABASE {service}_copy RENAME TO {service}",
                f"ALTER DATABASE {service} ALLOW_CONNECTIONS true",
            )
        for service in ("orders", "inventory"):
            await until_it_says(ground, service, f"pavane rebuild {service}")
            await eventually(lambda it=service: is_listed(ground, it), NOTICED_SECONDS, f"{service}'s lanes are halted")
        for service in ("orders", "inventory"):
            code, said = await pavane(ground, "rebuild", service, "--swap", "--yes", "--reason", "restored")
            assert code == 0, said
            assert "is behind its log" in said
            assert await rebuilds(ground, service) == rebuilt[service] + 1


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_every_service_is_changed_over_while_orders_flow(ground: Ground, seed: int) -> None:
    async with under_load(ground, seed) as load:
        for service in ("orders", "inventory", "billing", "shipping", "timeline"):
            await load.accepted(load.placed + MORE_ORDERS)
            before = await ground.epochs(service)
            code, said = await pavane(ground, "rebuild", service, "--swap", "--yes", "--reason", "practice")
            assert code == 0, said
            assert f"Every row of {service} is right." in said
            [stood_still] = re.findall(r"The lanes stood still for ([\d.]+) s\.", said)
            assert float(stood_still) <= PROMISED_PAUSE_SECONDS
            await ground.until_taken_over(service, {lane: epoch + 1 for lane, epoch in before.items()})


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_row_that_no_fact_made_is_named_and_set_right(ground: Ground, seed: int) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        # Of any other order a fact may follow, and with it the whole row as the timeline remembers it.
        rejected = lambda: next((order for order, end in load.ended.items() if end == "REJECTED"), None)  # noqa: E731
        order = await eventually(rejected, NOTICED_SECONDS, "an order was rejected")
        changed = "UPDATE stories SET customer = 'somebody' WHERE order_id = %s RETURNING 1, 1"

        async def is_changed() -> bool:
            return bool(await ground.rows("timeline", changed, order))

        await eventually(is_changed, NOTICED_SECONDS, "its story was changed by hand")
        code, said = await pavane(ground, "rebuild", "timeline")
        assert code == 1
        assert re.search(rf"stories {order}: customer is 'somebody', the facts make it '", said), said
        assert "1 row of timeline differ" in said

        code, said = await pavane(ground, "rebuild", "timeline", "--swap", "--yes", "--reason", "changed by hand")
        assert code == 0 and "Going on behind" in said
        code, said = await pavane(ground, "rebuild", "timeline")
        assert code == 0 and "Every row of timeline is right." in said
