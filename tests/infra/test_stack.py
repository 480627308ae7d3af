"""The whole stack: real servers, restarted, killed, shared, and gone when they should be."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from infra import topics
from infra.addresses import Addresses
from infra.errors import DataFolderForeign, DataFolderInUse, ExitedEarly, TopicsDiffer
from infra.kafka import Kafka
from infra.stack import Part, Stack

pytestmark = pytest.mark.stack

SCHEMA = json.dumps({"schema": json.dumps({"type": "record", "name": "OrderPlaced", "fields": []})}).encode()
DATABASES = ("orders", "billing")

LAUNCHER = """
import asyncio, sys
from pathlib import Path
from infra.stack import Stack

async def main():
    stack = Stack(Path(sys.argv[1]), databases=("orders", "billing"), environment={})
    await stack.start()
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), databases=DATABASES, environment={})
    await stack.start()
    yield stack
    await stack.stop()


def registry(addresses: Addresses, path: str, body: bytes | None = None) -> Any:
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(f"{addresses.registry_url}{path}", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def leave_traces(addresses: Addresses) -> int:
    """A topic, a schema, a row and a key; the schema's id."""
    topics.apply(addresses.kafka_bootstrap)
    with psycopg.connect(addresses.postgres["orders"]) as connection:
        connection.execute("CREATE TABLE traces AS SELECT 'here' AS trace")
    with redis.Redis.from_url(addresses.redis_url) as client:
        client.set("trace", "here")
        client.waitaof(1, 0, 5000)
    return int(registry(addresses, "/subjects/orders-OrderPlaced/versions", SCHEMA)["id"])


def assert_traces(addresses: Addresses, schema_id: int) -> None:
    assert topics.plan(addresses.kafka_bootstrap).missing == []
    with psycopg.connect(addresses.postgres["orders"]) as connection:
        assert connection.execute("SELECT trace FROM traces").fetchone() == ("here",)
    with redis.Redis.from_url(addresses.redis_url) as client:
        assert client.get("trace") == b"here"
    assert registry(addresses, f"/schemas/ids/{schema_id}")["schema"]


async def test_every_part_is_announced_without_secrets(tmp_path: Path) -> None:
    parts: list[Part] = []
    stack = Stack(tmp_path / "data", databases=(), environment={})
    await stack.start(on_ready=parts.append)
    await stack.stop()

    assert {(part.name, part.version) for part in parts} == {
        ("Apache Kafka", "4.3.1"),
        ("Apicurio Registry", "3.3.3"),
        ("PostgreSQL", "18.6"),
        ("Valkey", "9.1.2"),
    }
    assert all("127.0.0.1" in part.address and "@" not in part.address and part.seconds > 0 for part in parts)


async def test_nothing_listens_but_on_this_machine(stack: Stack) -> None:
    processes = [process for server in stack.servers for process in _tree(server.pid)]

    listening = {
        socket.laddr.ip
        for process in processes
        for socket in process.net_connections("inet")
        if socket.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    }

    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


async def test_a_second_stack_on_the_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(DataFolderInUse, match="in use by another stack"):
        await Stack(stack.data.path, databases=DATABASES, environment={}).start()


async def test_another_stack_can_use_these_servers(stack: Stack, tmp_path: Path) -> None:
    theirs = {name: value for name, value in stack.addresses.environment().items() if name != "PAVANE_DATABASE_ORDERS"}

    async with Stack(tmp_path / "data", databases=("orders", "loyalty"), environment=theirs) as other:
        assert other.servers == []
        assert other.addresses.kafka_bootstrap == stack.addresses.kafka_bootstrap
        with psycopg.connect(other.addresses.postgres["loyalty"]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("loyalty",)


async def test_a_killed_part_comes_back_on_its_port(stack: Stack) -> None:
    for server in stack.servers:
        port = server.port
        server.kill()
        await server.start()
        assert server.port == port
        assert server.ask() is None


async def test_topics_are_made_once_and_differences_are_set(stack: Stack, eventually: Callable[..., None]) -> None:
    bootstrap = stack.addresses.kafka_bootstrap
    wanted = topics.load(environment={})
    made = topics.apply(bootstrap, wanted)
    other = {"cleanup.policy": "compact", "retention.bytes": "1000000", "retention.ms": "5000"}
    changed = [topics.Topic("orders", "orders", "facts", 4, other)]

    assert len(made.missing) == len(wanted)
    assert topics.plan(bootstrap, wanted) == topics.Plan([], [], [], [])
    assert {each.what for each in topics.apply(bootstrap, changed).differing} == set(other)
    # A setting is known a moment after it was taken.
    await asyncio.to_thread(eventually, lambda: len(topics.plan(bootstrap, wanted).differing) == len(other))
    assert {each.what for each in topics.apply(bootstrap, wanted).differing} == set(other)
    await asyncio.to_thread(eventually, lambda: not topics.plan(bootstrap, wanted).differing)
    assert topics.plan(bootstrap, wanted) == topics.Plan([], [], [], [])


async def test_no_topic_grows_in_place(stack: Stack) -> None:
    topics.apply(stack.addresses.kafka_bootstrap, topics.load(environment={}))

    with pytest.raises(TopicsDiffer, match=r"'orders' has 4 partitions.*8 are wanted.*PAVANE_PARTITIONS .*back to 4"):
        topics.apply(stack.addresses.kafka_bootstrap, topics.load(environment={"PAVANE_PARTITIONS": "8"}))


async def test_a_topic_that_was_made_anew_with_fewer_partitions_than_others_is_to_be_settled(stack: Stack) -> None:
    bootstrap = stack.addresses.kafka_bootstrap
    enough, anew = (topics.Topic(name, "fewer", "requests", 4) for name in ("enough", "anew"))
    topics.apply(bootstrap, [enough, replace(anew, partitions=2)])

    with pytest.raises(TopicsDiffer, match=r"'anew' has 2 partitions, but 4 are wanted.*'pavane lanes settle --reason"):
        topics.apply(bootstrap, [enough, anew])


async def test_a_topic_that_has_grown_among_others_does_no_harm(stack: Stack) -> None:
    bootstrap = stack.addresses.kafka_bootstrap
    wanted = [topics.Topic(name, "growing", "requests", 2) for name in ("growing", "as-it-was")]
    topics.apply(bootstrap, wanted)
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    [grown] = client.create_partitions([NewPartitions("growing", 3)], operation_timeout=10.0).values()
    grown.result(10.0)

    done = topics.apply(bootstrap, wanted)

    assert done.grown == [topics.Difference("growing", "partitions", "2", "3")]
    assert done.impossible == []


async def test_no_topic_appears_by_itself(stack: Stack) -> None:
    client = AdminClient({"bootstrap.servers": stack.addresses.kafka_bootstrap, "log_level": 0})
    client.list_topics("unheard-of", timeout=10)

    assert "unheard-of" not in client.list_topics(timeout=10).topics


async def test_the_same_folder_gives_the_same_data(tmp_path: Path) -> None:
    async with Stack(tmp_path / "data", databases=DATABASES, environment={}) as first:
        schema_id = leave_traces(first.addresses)

    async with Stack(tmp_path / "data", databases=DATABASES, environment={}) as second:
        assert second.addresses != first
        assert_traces(second.addresses, schema_id)


async def test_sigkill_of_the_launcher_leaves_nothing_running_and_loses_nothing(
    tmp_path: Path,
    launch: Callable[..., Any],
    alive: Callable[[int], bool],
    eventually: Callable[..., None],
) -> None:
    launcher = launch(LAUNCHER, str(tmp_path / "data"))
    state = json.loads((tmp_path / "data" / "stack.json").read_text())
    addresses = Addresses(
        kafka_bootstrap=state["addresses"]["PAVANE_KAFKA"],
        registry_url=state["addresses"]["PAVANE_REGISTRY"],
        postgres={"orders": state["addresses"]["PAVANE_DATABASE_ORDERS"]},
        postgres_admin=state["addresses"]["PAVANE_DATABASE_ADMIN"],
        redis_url=state["addresses"]["PAVANE_REDIS"],
    )
    schema_id = await asyncio.to_thread(leave_traces, addresses)
    pids = [process.pid for each in state["processes"].values() for process in _tree(each["pid"])]
    assert len(pids) > 4
    assert all(alive(pid) for pid in pids)

    launcher.sigkill()

    eventually(lambda: not any(alive(pid) for pid in pids))
    async with Stack(tmp_path / "data", databases=DATABASES, environment={}) as stack:
        assert_traces(stack.addresses, schema_id)


async def test_a_part_that_does_not_come_up_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Kafka.prepare

    def prepare(node: Kafka) -> None:
        real(node)
        (node.folder / "server.properties").write_text("process.roles=scribe\n")

    monkeypatch.setattr(Kafka, "prepare", prepare)
    stack = Stack(tmp_path / "data", databases=DATABASES, environment={})

    with pytest.raises(ExitedEarly, match=r"Apache Kafka exited with code 1[\s\S]*kafka-1\.log") as failed:
        await stack.start()

    assert "\tat " not in str(failed.value)
    assert not any(server.is_running for server in stack.servers)
    monkeypatch.undo()
    async with Stack(tmp_path / "data", databases=DATABASES, environment={}):
        pass


async def test_three_brokers_survive_the_loss_of_one(tmp_path: Path, eventually: Callable[..., None]) -> None:
    async with Stack(tmp_path / "data", brokers=3, databases=(), environment={}) as stack:
        topics.apply(stack.addresses.kafka_bootstrap)
        client = AdminClient({"bootstrap.servers": stack.addresses.kafka_bootstrap, "log_level": 0})

        def lanes() -> list[Any]:
            found = client.list_topics(timeout=10).topics.get("orders")
            return list(found.partitions.values()) if found else []

        # A topic that one broker has made is news to the others.
        await asyncio.to_thread(eventually, lambda: len(lanes()) == 4)
        assert [len(lane.replicas) for lane in lanes()] == [3, 3, 3, 3]

        stack.kafka[0].kill()

        await asyncio.to_thread(eventually, lambda: {lane.leader for lane in lanes()} <= {2, 3})
        # A write waits for two of the three all the same.
        await asyncio.to_thread(eventually, lambda: len(client.list_topics(timeout=10).brokers) == 2)
        assert topics.plan(stack.addresses.kafka_bootstrap) == topics.Plan([], [], [], [])

    with pytest.raises(DataFolderForeign, match="a Kafka of 3 brokers; this is one of 1"):
        await Stack(tmp_path / "data", environment={}).start()


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
