"""One database and one role a service, on whatever PostgreSQL: embedded or the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql


def make_databases(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Make what is missing of a database and a role for each name; the URL of each, with its role and password.

    The role owns its database, and no other role (but a superuser) may connect to it. A role that exists gets this
    password. `psycopg.Error` when the server cannot be reached or the admin may not create roles and databases.
    """
    with psycopg.connect(admin_url, autocommit=True) as connection:
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name, password in passwords.items():
            identifier = sql.Identifier(name)
            verb = sql.SQL("ALTER" if name in roles else "CREATE")
            connection.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, identifier, password))
            if name not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(identifier, identifier))
                connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(identifier))
    return {name: database_url(admin_url, name, password) for name, password in passwords.items()}


def database_url(admin_url: str, name: str, password: str) -> str:
    """The admin's URL with another role and database; options (`?sslmode=`) stay."""
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}", path=f"/{name}"))
