"""What the tests of services on a real database share."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql


@pytest.fixture
def empty(world_database: str) -> Callable[[str], str]:
    """An empty place in a database of its own name; its URL."""

    def make(name: str) -> str:
        place = sql.Identifier(f"migrated_{name}")
        with psycopg.connect(world_database, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(place))
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(place))
        return f"{world_database}?options=-csearch_path%3Dmigrated_{name}"

    return make
