"""What the kit's tests on real parts share: databases with the kit's own tables and those of the counter service."""

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg import sql
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

import streams.kit.versions
from infra.stack import Stack
from streams.kit.postgres import PostgresStore
from tests.conftest import NewDatabase, NewTopics
from tests.kit import running
from tests.kit.counter import make_counter
from tests.kit.counter_events import TABLES
from tests.kit.running import PARTITIONS, Counting

Ask = Callable[..., Awaitable[list[tuple[Any, ...]]]]


@pytest.fixture(scope="session")
async def counter_database(new_database: NewDatabase) -> str:
    """The URL of a database of a counter service."""
    url = await new_database()
    await asyncio.to_thread(_make_tables, url)
    return url


@pytest.fixture
async def database(counter_database: str) -> str:
    """The same, with empty tables: to make a database for every test would take longer than most tests."""
    async with await psycopg.AsyncConnection.connect(counter_database) as connection:
        cursor = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = sql.SQL(", ").join([sql.Identifier(name) for (name,) in await cursor.fetchall()])
        await connection.execute(sql.SQL("TRUNCATE {}").format(tables))
    return counter_database


@pytest.fixture
async def new_store(database: str) -> AsyncIterator[Callable[..., PostgresStore]]:
    """Makes stores on the fresh database, each with a connection of its own, as each instance of a service has."""
    made: list[PostgresStore] = []

    def new(transaction_seconds: float = 8.0) -> PostgresStore:
        made.append(PostgresStore(database, transaction_seconds))
        return made[-1]

    yield new
    for store in made:
        await store.close()


@pytest.fixture
async def ask(database: str) -> AsyncIterator[Ask]:
    """`await ask("SELECT ...", value)`: what the fresh database holds, asked over a connection of the test's own."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:

        async def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []

        yield rows


def _make_tables(url: str) -> None:
    """The kit's tables by the kit's own migrations, then the counter's."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    folder = streams.kit.versions.__path__
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        for version in sorted(module.name for module in pkgutil.iter_modules(folder)):
            importlib.import_module(f"streams.kit.versions.{version}").upgrade()
        connection.execute(text(TABLES))
    engine.dispose()


@pytest.fixture
async def counting(stack: Stack, database: str, new_topics: NewTopics, new_name: str) -> AsyncIterator[Counting]:
    """The counter service on fresh topics and a fresh database; no instance runs yet."""
    counter = await make_counter(new_name)
    await new_topics(*counter.topics, partitions=PARTITIONS)
    async with running.counting(counter, stack.addresses.kafka_bootstrap, database) as service:
        yield service


@pytest.fixture
async def sharing(stack: Stack, database: str, new_topics: NewTopics, new_name: str) -> AsyncIterator[Counting]:
    """The same, with shared rows instead of a world to ask."""
    counter = await make_counter(new_name, shares=True)
    await new_topics(*counter.topics, partitions=PARTITIONS)
    async with running.counting(counter, stack.addresses.kafka_bootstrap, database) as service:
        yield service
