"""What `pavane can-deploy` finds in databases, log and registry, and how it answers; nothing runs here."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema as Registered
from confluent_kafka.schema_registry import SchemaRegistryClient

from api.announced import announcement as of_gateway
from contracts import registry
from infra import topics
from infra.stack import Stack
from streams.kit import envelope
from streams.kit.announcing import Announcement, announce, announcement
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.migrations import migrate
from streams.kit.run import find, services
from streams.kit.writers import HEAD
from tests.waiting import eventually

NO_SCHEMA, NO_SCHEMA_EITHER = 900_001, 900_002
HELD = {"type": "record", "name": "OrderHeld", "namespace": "pavane.orders",
        "fields": [{"name": "order_id", "type": "string"}]}  # fmt: skip
pytestmark = [pytest.mark.stack, pytest.mark.timeout(540)]


class Ground:
    """A stack on which nothing runs: what a version would meet is put there by hand."""

    def __init__(self, stack: Stack) -> None:
        self.addresses = stack.addresses
        self.orders = stack.addresses.postgres["orders"]

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pavane", "can-deploy", *words],
            env={"PATH": "", **self.addresses.environment()},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def why_not(self, *words: str) -> list[str]:
        """The reasons against it."""
        answered = self.ask("orders", "--json", *words)
        assert answered.returncode in (0, 1), answered.stderr
        answer: dict[str, Any] = json.loads(answered.stdout)
        assert answer["can_deploy"] is (answered.returncode == 0) is (not answer["reasons"])
        return [f"{reason['where']}: {reason['what']}" for reason in answer["reasons"]]

    def write(self, topic: str, schema_id: int) -> None:
        producer = Producer({"bootstrap.servers": self.addresses.kafka_bootstrap})
        producer.produce(topic, HEAD.pack(0, schema_id) + b"\2x", "key", partition=1)
        assert producer.flush(20) == 0

    def execute(self, query: str, *values: object) -> None:
        with psycopg.connect(self.orders, autocommit=True) as connection:
            connection.execute(query.encode(), values)

    async def run_for_a_moment(self, said: Announcement, url: str = "") -> None:
        """A version says that it runs, as its process does, in the database at `url` (default: that of orders)."""
        running = asyncio.create_task(announce(url or self.orders, said))

        def is_known() -> bool:
            with psycopg.connect(url or self.orders) as connection:
                found = connection.execute("SELECT 1 FROM announced WHERE version = %s", [said.version])
                return found.fetchone() is not None

        await eventually(lambda: asyncio.to_thread(is_known), 20, "it is announced")
        running.cancel()


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with Stack(tmp_path / "stack") as stack:
        await asyncio.gather(
            asyncio.to_thread(topics.apply, stack.addresses.kafka_bootstrap),
            asyncio.to_thread(registry.push, stack.addresses.registry_url, Language.load()),
            *(asyncio.to_thread(migrate, name, stack.addresses.postgres[name]) for name in services()),
        )
        yield Ground(stack)


async def test_everything_that_a_version_would_meet_is_found(ground: Ground) -> None:
    now = announcement(find("orders"), Language.load())
    first = await asyncio.to_thread(ground.ask, "orders")
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, f"Yes: orders {now.version} may run now.")
    assert "  billing: never ran" in first.stdout.splitlines()

    ground.execute("INSERT INTO lanes (partition, partition_count, epoch) VALUES (1, 4, 1)")
    (silent,) = await asyncio.to_thread(ground.why_not)
    assert "cannot be judged against the last version of orders, which does not announce" in silent
    ground.execute(
        "INSERT INTO operations (ended_at, who, what, items, subject, why, outcome) "
        "VALUES (now(), 'ada', 'rebuild', '[]', '', 'it was lost', 'changed over')"
    )
    (lost,) = await asyncio.to_thread(ground.why_not)
    assert "what ran of orders is not known, since its database was made again at" in lost
    await ground.run_for_a_moment(now)
    assert await asyncio.to_thread(ground.why_not) == []

    # Unread, parked, and among its own facts: each found where it is.
    ground.write("orders.requests", NO_SCHEMA)
    origin = envelope.of_request("orders.requests", 1, 7, [])
    parked = Record("orders.requests", 1, 7, 0, b"key", HEAD.pack(0, NO_SCHEMA_EITHER), [])
    ground.execute(
        "INSERT INTO parked (partition, number, key, holds, topic, log_offset, reason, message, attempts, delivery) "
        "VALUES (1, 1, 'key', true, 'orders.requests', 7, 'RegistryAway', '', 1, %s)",
        msgspec.msgpack.encode((parked, origin)),
    )
    further = Announcement("orders", "further", {"orders": {"OrderHeld": HELD}}, now.hears, {})
    await ground.run_for_a_moment(further)
    ground.execute("UPDATE announced SET first_at = %s WHERE version = 'further'", datetime(2026, 1, 1, tzinfo=UTC))
    client = SchemaRegistryClient({"url": ground.addresses.registry_url})
    held = client.register_schema("orders-pavane.orders.OrderHeld", Registered(json.dumps(HELD), "AVRO"))
    ground.write("orders", held)
    assert sorted(await asyncio.to_thread(ground.why_not)) == [
        "orders.requests/1/0: 1 unread record that nobody can read: the registry knows no schema 900001.",
        "orders.requests/1/7: 1 parked record that nobody can read: the registry knows no schema 900002.",
        "orders/1/0: its own topic has 1 OrderHeld, which this version does not know: it could not rebuild from them.",
    ]

    asked = await asyncio.to_thread(ground.ask, "orders", "--as", now.version[:6])
    assert asked.stdout.splitlines()[0] == f"No: orders {now.version} must not run now."
    await the_gateway_is_judged_by_those_that_it_asks(ground)
    for words, told in {
        ("nobody",): "there is no service 'nobody'; there are billing, inventory, orders, shipping, timeline, gateway",
        ("gateway", "--as", "no-such"): "'no-such' is no folder, and no version of gateway that ran here; there are: ",
        ("orders", "--as", "no-such"): "'no-such' is no folder, and no version of orders that ran here; there are: ",
        ("orders", "--as", "tests"): "no version of orders can be read there",
    }.items():
        answered = await asyncio.to_thread(ground.ask, *words)
        assert (answered.returncode, "Traceback" in answered.stderr) == (2, False)
        assert told in answered.stderr


async def the_gateway_is_judged_by_those_that_it_asks(ground: Ground) -> None:
    """It announces itself in the timeline's database, and is no version of the timeline's for that."""
    asks = of_gateway(Language.load())
    first = await asyncio.to_thread(ground.ask, "gateway")
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, f"Yes: gateway {asks.version} may run now.")
    await ground.run_for_a_moment(asks, ground.addresses.postgres["timeline"])
    after = await asyncio.to_thread(ground.ask, "gateway", "--as", asks.version)
    assert after.returncode == 0, after.stdout
    assert {f"  gateway: {asks.version}", "  timeline: never ran"} <= set(after.stdout.splitlines())

    holds = {**asks.says["orders.requests"], "HoldOrder": {**HELD, "name": "HoldOrder"}}
    await ground.run_for_a_moment(
        msgspec.structs.replace(asks, version="holding", says={**asks.says, "orders.requests": holds}),
        ground.addresses.postgres["timeline"],
    )
    lost = "gateway holding: asks HoldOrder on orders.requests, and this version does not react to it"
    assert f"{lost}: it would be lost." in await asyncio.to_thread(ground.why_not)
