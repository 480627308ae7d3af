"""What tests share: the embedded stack, started once on first use, and fresh topics and databases on it.

Every test that needs the stack, however indirectly, carries the marker `stack`: `pytest -m "not stack"` runs the rest.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest
import structlog
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from hypothesis import settings
from structlog.dev import ConsoleRenderer
from structlog.dev import plain_traceback as plain

from contracts import registry
from infra import topics
from infra.databases import make_databases
from infra.proxies import pass_by_proxies
from infra.stack import Stack
from streams.kit.keystore import make_tables
from streams.kit.language import Language
from streams.kit.migrations import migrate
from streams.kit.run import services

pass_by_proxies()
# Traces of errors are told as they are: drawn with the values of all names one takes seconds.
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], ConsoleRenderer(exception_formatter=plain)])

# How long one example takes says nothing on a machine that others use as well.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

#: Fixtures that start one.
STACKS = {"stack", "own_ground"}
NewTopics = Callable[..., Awaitable[None]]
NewDatabase = Callable[[], Awaitable[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not STACKS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.stack)


@pytest.fixture(scope="session")
async def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """All parts, for the whole session: topics made, schemas registered, every service's database migrated."""
    folder = tmp_path_factory.mktemp("stack")
    async with Stack(folder) as stack:
        await asyncio.gather(
            asyncio.to_thread(topics.apply, stack.addresses.kafka_bootstrap),
            asyncio.to_thread(registry.push, stack.addresses.registry_url, Language.load()),
            asyncio.to_thread(make_tables, stack.addresses.postgres["keys"]),
            *(asyncio.to_thread(migrate, name, stack.addresses.postgres[name]) for name in services()),
        )
        yield stack
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_name() -> str:
    """A name that no other test uses, fit for a service, a topic, a database or a consumer group."""
    return f"t{uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def new_topics(stack: Stack) -> NewTopics:
    """`await new_topics("a", "b", partitions=2)`: make topics on the stack's Kafka."""
    client = AdminClient({"bootstrap.servers": stack.addresses.kafka_bootstrap, "log_level": 0})

    def make(names: tuple[str, ...], partitions: int, settings: dict[str, str]) -> None:
        wanted = [NewTopic(name, partitions, 1, config=settings) for name in names]
        for made in client.create_topics(wanted, operation_timeout=10.0).values():
            made.result(10.0)

    async def new(*names: str, partitions: int = 2, **settings: str) -> None:
        await asyncio.to_thread(make, names, partitions, {k.replace("_", "."): v for k, v in settings.items()})

    return new


@pytest.fixture(scope="session")
def new_database(stack: Stack) -> NewDatabase:
    """`await new_database()`: an empty database of a role of its own; its URL."""

    async def new() -> str:
        name = f"d{uuid4().hex[:10]}"
        return (await asyncio.to_thread(make_databases, stack.addresses.postgres_admin, {name: uuid4().hex}))[name]

    return new


@pytest.fixture(scope="session")
async def world_database(new_database: NewDatabase) -> str:
    """URL of a database for simulated providers and carriers; not the platform's, in which the audit counts."""
    return await new_database()
