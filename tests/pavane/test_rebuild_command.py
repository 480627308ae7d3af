"""`pavane rebuild` on a log of some thousand orders: killed in the middle, from a backup, from one that is ahead."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator

import psycopg
import pytest

from infra.stack import Stack
from pavane import prepare
from pavane.bench.history import CONFIRMED_OF_TEN, Writing
from pavane.rebuild import beside
from streams.kit.migrations import check
from tests.waiting import eventually

ORDERS, MORE_ORDERS = 6_000, 500
KILLED_SECONDS = 120.0
#: So much is folded while it goes on; none: there are no fresh tables yet.
FOLDED = "SELECT sum(outbox_row)::bigint FROM rebuilt.lanes"
ORDERS_OF = {"billing": "invoices", "timeline": "stories"}
#: As if there had been more records in the topic of before.
LONGER_BEFORE = (
    "UPDATE rebuilt.lanes "
    "SET positions = positions || jsonb_build_object('billing', (positions ->> 'billing')::int + 100000)"
)
pytestmark = [pytest.mark.stack, pytest.mark.timeout(540)]


@pytest.fixture(scope="module")
async def written(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, Writing]]:
    """A stack of its own, with the orders in its log and nothing in its databases."""
    async with Stack(tmp_path_factory.mktemp("history") / "stack") as stack:
        await asyncio.to_thread(prepare.apply_topics, stack.addresses.kafka_bootstrap)
        await asyncio.to_thread(prepare.push_schemas, stack.addresses.registry_url)
        await asyncio.to_thread(prepare.migrate_databases, stack.addresses.postgres)
        writing = Writing(stack.addresses)
        await writing.write(ORDERS, 1, lambda _: None)
        yield stack, writing


async def begin(stack: Stack, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane", "rebuild", *words),
        env={**os.environ, **stack.addresses.environment()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def rebuild(stack: Stack, *words: str, code: int = 0) -> str:
    process = await begin(stack, *words)
    said = (await process.communicate())[0].decode()
    assert process.returncode == code, said
    return said


async def ask(url: str, query: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def test_a_rebuild_that_is_killed_goes_on_where_it_was(written: tuple[Stack, Writing]) -> None:
    stack, _ = written
    url = stack.addresses.postgres["timeline"]
    process = await begin(stack, "timeline", "--processes", "1")

    async def is_in_the_middle() -> bool:
        assert process.returncode is None, "it ended before it could be killed"
        try:
            return bool((await ask(url, FOLDED))[0][0])
        except psycopg.Error:
            return False

    await eventually(is_in_the_middle, KILLED_SECONDS, "some records are folded")
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    [(folded,)] = await ask(url, FOLDED)
    records = 9 * ORDERS + 2_000
    assert isinstance(folded, int) and 0 < folded < records

    said = await rebuild(stack, "timeline", "--swap", "--yes", "--reason", "killed")
    [(of_before, rest)] = re.findall(r"Going on behind ([\d,]+) records[^\n]*\n(?:.*\n)*?([\d,]+) records folded", said)
    assert int(of_before.replace(",", "")) + int(rest.replace(",", "")) == records
    confirmed = ORDERS * CONFIRMED_OF_TEN // 10
    stories = await ask(url, "SELECT status, count(*) FROM stories GROUP BY 1 ORDER BY 1")
    assert stories == [("cancelled", ORDERS - confirmed), ("confirmed", confirmed)]
    assert await ask(url, "SELECT count(*) FROM entries") == [(9 * ORDERS,)]
    assert check("timeline", url) == [], "every index is there again"
    assert "Every row of timeline is right." in await rebuild(stack, "timeline")


async def test_two_do_not_rebuild_one_service_at_once(written: tuple[Stack, Writing]) -> None:
    stack, _ = written
    async with beside.alone("timeline", stack.addresses.postgres["timeline"]):
        said = await rebuild(stack, "timeline", "--restart", code=2)
    assert "another rebuild of timeline is under way" in said


async def test_a_backup_is_the_beginning_of_a_rebuild_unless_the_log_is_behind_it(
    written: tuple[Stack, Writing],
) -> None:
    stack, writing = written
    admin, url = stack.addresses.postgres_admin, stack.addresses.postgres["billing"]
    await rebuild(stack, "billing", "--swap", "--yes", "--reason", "lost")
    await ask_to(admin, "CREATE DATABASE billing_backup TEMPLATE billing OWNER billing")
    backup = f"{url.rpartition('/')[0]}/billing_backup"
    await writing.write(MORE_ORDERS, 2, lambda _: None)
    await ask_to(admin, "DROP DATABASE billing WITH (FORCE)")

    said = await rebuild(stack, "billing", "--from-backup", backup, "--swap", "--yes", "--reason", "restored")
    assert f"The rows of the backup are there: {3 * ORDERS:,} records need not be folded." in said
    assert f"{3 * MORE_ORDERS:,} records folded" in said
    assert await ask(url, "SELECT count(*) FROM invoices") == [(ORDERS + MORE_ORDERS,)]
    done = await ask(url, "SELECT number, why FROM operations ORDER BY number")
    assert done == [(1, "lost"), (2, "restored")], "what operators did is in no log: the backup gives it back"
    assert "Every row of billing is right." in await rebuild(stack, "billing", "--restart")
    assert await ask(url, "SELECT to_regnamespace('rebuilt')") == [(None,)], "there is nothing to go on with"

    # One row differs: the fresh tables stay.
    await ask_to(url, "UPDATE invoices SET amount_minor = 0 WHERE order_id = (SELECT min(order_id) FROM invoices)")
    assert "in the schema rebuilt" in await rebuild(stack, "billing", code=1)
    said = await rebuild(stack, "billing", "--from-backup", backup, code=2)
    assert "did not begin with this backup" in said and "--restart" in said
    said = await rebuild(stack, "billing", "--from-backup", backup, "--restart", code=1)
    assert "rows of the backup are there" in said
    assert "Going on behind" in await rebuild(stack, "billing", "--from-backup", backup, code=1)

    # As if facts had been committed then that the log has lost since.
    await ask_to(backup, "UPDATE lanes SET clock = clock || '{\"billing\": 1000000}' WHERE partition = 0")
    said = await rebuild(stack, "billing", "--from-backup", backup, "--restart", code=2)
    assert "the backup is ahead" in said and "in lane 0" in said


@pytest.mark.parametrize("service", ["billing", "timeline"])
async def test_a_rebuild_goes_on_where_the_log_has_what_comes_next_though_its_topic_was_made_again(
    service: str, written: tuple[Stack, Writing]
) -> None:
    stack, writing = written
    url = stack.addresses.postgres[service]
    await rebuild(stack, service, "--swap", "--yes", "--reason", "so that it is right")
    places = "SELECT partition, positions -> 'billing' FROM lanes ORDER BY 1"
    orders = f"SELECT count(*) FROM {ORDERS_OF[service]}"
    heard, [(known,)] = await ask(url, places), await ask(url, orders)
    await ask_to(url, f"UPDATE {ORDERS_OF[service]} SET tenant = 'other' WHERE order_id < '1'")
    await rebuild(stack, service, "--restart", code=1)
    await ask_to(url, LONGER_BEFORE)
    await writing.write(MORE_ORDERS, 3, lambda _: None)

    said = await rebuild(stack, service, "--swap", "--yes", "--reason", "it was made again")

    assert "Going on behind" in said and "Changed over" in said
    if service == "timeline":
        assert await ask(url, places) == heard, "it hears what comes next"
    else:
        assert await ask(url, orders) == [(known + MORE_ORDERS,)]
    assert f"Every row of {service} is right." in await rebuild(stack, service)


async def ask_to(url: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(statement.encode())
