"""A database that is gone is made again, empty, so that it can be filled."""

import asyncio
from collections.abc import Mapping

import psycopg

from infra.addresses import DATABASE_ADMIN, database_variable
from infra.databases import make_databases
from pavane.operators.errors import DatabaseUnreadable
from pavane.prepare import NotMigrated
from pavane.rebuild.errors import CannotRebuild

CONNECT_TIMEOUT_SECONDS = 5
NO_DATABASE = "does not exist"


async def made_whole(service: str, environment: Mapping[str, str], *, dry_run: bool) -> list[str]:
    """Make the service's database if there is none, and its tables; what was done, in words. Raises `CannotRebuild`."""
    return await asyncio.to_thread(_made_whole, service, environment, dry_run)


def _made_whole(service: str, environment: Mapping[str, str], dry_run: bool) -> list[str]:
    variable = database_variable(service)
    url = environment.get(variable)
    if not url:
        raise CannotRebuild(f"{variable} (PostgreSQL URL of {service}) is not set")
    done = []
    if not _exists(service, variable, url):
        if dry_run:
            raise CannotRebuild(f"The database of {service} ({variable}) is gone. Without --dry-run it is made again.")
        done.append(_make(service, variable, url, environment.get(DATABASE_ADMIN)))
    if not dry_run:
        _migrate(service, variable, url)
    return done


def _exists(service: str, variable: str, url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_SECONDS).close()
    except psycopg.OperationalError as error:
        # The server's code for it does not come with an error of connecting.
        if NO_DATABASE in str(error) and "database" in str(error):
            return False
        raise DatabaseUnreadable(service, variable, error) from error
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


def _migrate(service: str, variable: str, url: str) -> None:
    from sqlalchemy.exc import DBAPIError

    from streams.kit.errors import TablesHeld
    from streams.kit.migrations import migrate

    try:
        migrate(service, url)
    except (DBAPIError, TablesHeld) as error:
        raise NotMigrated(service, getattr(error, "orig", None) or error) from None
