"""Rows are deleted by mistake. PostgreSQL is restored to the moment before it, and the log makes the rest."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.faults.archive import Archive
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.faults.test_lost_database import FIRST_ORDERS, MORE_ORDERS, pavane, rebuilds
from tests.waiting import eventually

SECONDS = 60.0
pytestmark = [LONG, pytest.mark.timeout(540)]


@pytest.mark.parametrize("seed", seeds())
async def test_a_database_of_a_point_in_time_is_brought_up_to_date_by_what_was_said_since(
    ground: Ground, tmp_path: Path, seed: int
) -> None:
    archive = Archive(tmp_path, ground.stack.addresses.postgres_admin)
    before = await rebuilds(ground, "billing")
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        async with archive.kept():
            ended = len(load.ended)
            await eventually(lambda: len(load.ended) > ended + MORE_ORDERS, SECONDS, "orders end after the backup")
            moment = await archive.now()
        ended = len(load.ended)
        await eventually(lambda: len(load.ended) > ended + MORE_ORDERS, SECONDS, "orders end after the moment")
        # Of orders that are over: no decision needs them any more, so nothing but a proof would ever tell.
        lost = await ground.rows("billing", "DELETE FROM invoices WHERE status = 'captured' RETURNING 1, 1")
        assert len(lost) > 2 * MORE_ORDERS

        async with archive.restored(moment) as restored:
            backup = _at(ground.stack.addresses.postgres["billing"], restored)
            assert 0 < await _captured(backup) < len(lost), "it is older than the mistake, and not empty"
            code, said = await pavane(ground, "rebuild", "billing")
            assert code == 1 and re.search(r"[1-9][\d,]* rows of billing differ", said), said
            words = ("--from-backup", backup, "--swap", "--yes", "--reason", "rows were deleted")
            code, said = await pavane(ground, "rebuild", "billing", *words, "--restart")

        assert code == 0, said
        [begun_with] = re.findall(r"The rows of the backup are there: ([\d,]+) records? need not be folded", said)
        assert int(begun_with.replace(",", "")) > 0
        assert await rebuilds(ground, "billing") == before + 1
        assert await _captured(ground.stack.addresses.postgres["billing"]) >= len(lost)


def _at(database: str, server: str) -> str:
    """The database's URL, with its role and password, on another server."""
    known, there = urlsplit(database), urlsplit(server)
    return urlunsplit(known._replace(netloc=f"{known.username}:{known.password}@{there.hostname}:{there.port}"))


async def _captured(url: str) -> int:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        query = "SELECT count(*) FROM invoices WHERE status = 'captured'"
        [(found,)] = await (await connection.execute(query)).fetchall()
        return int(found)
