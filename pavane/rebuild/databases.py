"""The database that a rebuild finds: for a change-over one that is gone is made again, empty, and migrated."""

import asyncio
from collections.abc import Mapping

import psycopg

from infra.addresses import DATABASE_ADMIN, database_variable
from infra.databases import make_databases
from pavane.operators.errors import DatabaseUnreadable
from pavane.prepare import NotMigrated
from pavane.rebuild.errors import CannotRebuild, DatabaseGone, TablesAhead, TablesBehind

CONNECT_TIMEOUT_SECONDS = 5


async def made_whole(service: str, environment: Mapping[str, str]) -> list[str]:
    """Make the service's database if there is none, and its tables; what was done, in words. Raises `CannotRebuild`."""
    return await asyncio.to_thread(_made_whole, service, environment)


async def expect_whole(service: str, environment: Mapping[str, str], *, may_be_behind: bool) -> None:
    """Change nothing. Raises `CannotRebuild` when there is no database, or its tables are not those of this code
    (older ones are let pass if they `may_be_behind`)."""
    await asyncio.to_thread(_expect_whole, service, environment, may_be_behind)


def _made_whole(service: str, environment: Mapping[str, str]) -> list[str]:
    variable, url = database_of(service, environment)
    done = []
    if not _exists(service, variable, url):
        done.append(_make(service, variable, url, environment.get(DATABASE_ADMIN)))
    _migrate(service, url)
    return done


def _expect_whole(service: str, environment: Mapping[str, str], may_be_behind: bool) -> None:
    from sqlalchemy.exc import DBAPIError

    from streams.kit.migrations import apart

    variable, url = database_of(service, environment)
    if not _exists(service, variable, url):
        raise DatabaseGone(service, variable)
    try:
        ahead, behind = apart(service, url)
    except DBAPIError as error:
        raise DatabaseUnreadable(service, variable, error.orig or error) from error
    if ahead:
        raise TablesAhead(service, ahead)
    if behind and not may_be_behind:
        raise TablesBehind(service, behind)


def database_of(service: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable of the service's database, and what it says. Raises `CannotRebuild` when that is nothing."""
    variable = database_variable(service)
    if not (url := environment.get(variable)):
        raise CannotRebuild(f"{variable} (PostgreSQL URL of {service}) is not set")
    return variable, url


def _exists(service: str, variable: str, url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_SECONDS).close()
    except psycopg.OperationalError as error:
        unreadable = DatabaseUnreadable(service, variable, error)
        if unreadable.lost:
            return False
        raise unreadable from error
    return True


def _make(service: str, variable: str, url: str, admin: str | None) -> str:
    given = psycopg.conninfo.conninfo_to_dict(url)
    name, user = given.get("dbname"), given.get("user")
    if not admin or name != user or not given.get("password"):
        raise CannotRebuild(
            f"The database {name!r} of {service} ({variable}) is gone: make it again, empty and owned by {user!r}, or "
            f"set {DATABASE_ADMIN} if role and database have one name."
        )
    try:
        make_databases(admin, {str(name): str(given["password"])})
    except psycopg.Error as error:
        raise CannotRebuild(f"{DATABASE_ADMIN}: the database {name!r} cannot be made: {str(error).strip()}") from error
    return f"The database of {service} was gone: it was made again, empty."


def _migrate(service: str, url: str) -> None:
    from sqlalchemy.exc import DBAPIError

    from streams.kit.errors import TablesHeld
    from streams.kit.migrations import migrate

    try:
        ahead = migrate(service, url)
    except (DBAPIError, TablesHeld) as error:
        raise NotMigrated(service, getattr(error, "orig", None) or error) from None
    if ahead:
        raise TablesAhead(service, ahead)
