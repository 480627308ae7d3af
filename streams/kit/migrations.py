"""Brings a service's database to the tables that its code expects.

A database holds the kit's tables (`streams/kit/versions`) and its service's own (`streams/<name>/versions`). The two
are branches of one Alembic history, migrated together in one transaction: all of it, or nothing. Only whoever deploys
imports this module; a worker never does.

Whoever waits to change a table makes all others wait behind it, so it waits shortly, and tries again.
"""

import importlib
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, MetaData, create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from streams.kit.errors import TablesHeld, WrongDeclaration
from streams.kit.tables import kit_tables

#: Whoever migrates this database holds it; instances that start together wait for each other.
_LOCK = 0x7061_7662
#: Alembic's `op` is one global of the process, so threads take turns.
_ALEMBIC = threading.Lock()
_STATEMENT_TIMEOUT_SECONDS = 300
LOCK_TRIES = 60
BETWEEN_TRIES_SECONDS = 0.5
#: Longer than PostgreSQL takes to call an autovacuum off for who waits (its deadlock_timeout: a second, mostly).
_SHORTLY = "SET LOCAL lock_timeout = '1500ms'"
_HOLDING = """
SELECT DISTINCT a.pid, a.application_name, extract(epoch FROM now() - a.xact_start)::int
  FROM pg_stat_activity a JOIN pg_locks l USING (pid)
 WHERE a.datname = current_database() AND l.locktype = 'relation' AND l.granted
   AND a.xact_start < now() - interval '500 ms' ORDER BY 3 DESC LIMIT 3
"""


class Apart(NamedTuple):
    """Which migrations only one of two has: `ahead` the database, by a newer version; `behind`: the code."""

    ahead: tuple[str, ...]
    behind: tuple[str, ...]


def migrate(service_name: str, url: str) -> tuple[str, ...]:
    """Upgrade the database at `url` (postgresql://) to the newest tables. Several may call it at once, and again.

    Returns the migrations there that this code does not know: a newer version made them, and nothing is done then.
    Raises `TablesHeld` when a table is held for two minutes.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    script = _history(service_name)
    for _ in range(LOCK_TRIES):
        try:
            return _upgrade(service_name, url, script)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            time.sleep(BETWEEN_TRIES_SECONDS)
    raise TablesHeld(_holding(url))


def _upgrade(service_name: str, url: str, script: ScriptDirectory) -> tuple[str, ...]:
    with (
        _ALEMBIC,
        _connected(url) as connection,
        EnvironmentContext(
            Config(), script, fn=lambda revision, _: script._upgrade_revs("heads", revision)
        ) as environment,
    ):
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        # Those who migrate too were waited for, however long they took.
        connection.execute(text(_SHORTLY))
        if ahead := _apart(script, connection).ahead:
            return ahead
        environment.configure(connection=connection, target_metadata=_expected(service_name))
        environment.run_migrations()
    return ()


def apart(service_name: str, url: str) -> Apart:
    """How far the database and this code's migrations are apart; nothing is changed."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _connected(url) as connection:
        return _apart(_history(service_name), connection)


def check(service_name: str, url: str) -> list[str]:
    """How the live tables differ from `tables.py` of the kit and the service, one line a difference; empty: equal."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with _connected(url) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return [_line(difference) for difference in compare_metadata(context, _expected(service_name))]


def _holding(url: str) -> str:
    """Who holds tables of the database, the longest first."""
    with _connected(url) as connection:
        found = connection.execute(text(_HOLDING)).all()
    told = [f"{name or 'a client without a name'} (PID {pid}) for {seconds} s" for pid, name, seconds in found]
    return ", ".join(told) or "nobody any more"


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """One connection in one transaction: everything is committed at the end, or nothing."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT_SECONDS}s'"))
            yield connection
    finally:
        engine.dispose()


def _apart(script: ScriptDirectory, connection: Connection) -> Apart:
    """As the connection sees it. Of the code's, only the newest of each branch count."""
    there = set(MigrationContext.configure(connection).get_current_heads())
    known = {migration.revision for migration in script.walk_revisions()}
    return Apart(tuple(sorted(there - known)), tuple(sorted({*script.get_heads()} - there)))


def _history(service_name: str) -> ScriptDirectory:
    """The kit's versions and the service's, as one history."""
    kit = Path(__file__).parent
    own = _folder(service_name) / "versions"
    if not own.is_dir():
        raise WrongDeclaration(f"{own}: a service's migrations belong there; write the first as {service_name}_0001")
    return ScriptDirectory(str(kit), version_locations=[str(kit / "versions"), str(own)])


def _folder(service_name: str) -> Path:
    file = importlib.import_module(f"streams.{service_name}").__file__
    assert file is not None
    return Path(file).parent


def _expected(service_name: str) -> MetaData:
    """The kit's tables and the service's."""
    own: MetaData = importlib.import_module(f"streams.{service_name}.tables").metadata
    expected = MetaData()
    for metadata in (kit_tables, own):
        for table in metadata.sorted_tables:
            table.to_metadata(expected)
    return expected


def _line(difference: object) -> str:
    """Alembic's difference as one line: `modify_nullable orders.reason ...` and the like."""
    if isinstance(difference, list):
        return "; ".join(_line(each) for each in difference)
    if isinstance(difference, tuple):
        return " ".join(str(part) for part in difference if not isinstance(part, dict | None))
    return str(difference)
