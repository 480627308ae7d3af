"""Two processes of a real service share its lanes; one is killed, one is frozen for longer than its session lasts.

What both leave behind: every order placed once, every lane's sequence without a gap in order of first appearance.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest

from api.events import Address, OrderLine, PlaceOrder, SetPrice
from infra import topics
from infra.stack import Stack
from pavane.instance import Instance
from streams.kit.codec import Codec
from streams.kit.kafka import partition_of
from streams.kit.language import Language
from streams.kit.money import Money
from streams.kit.registry import ConfluentRegistry
from tests.kit import reading
from tests.waiting import eventually

SESSION_MS = 6_000
HERE = Address(recipient="Ada", street="1 Square", postal_code="1", city="London", country="GB")


class Orders:
    """The service `orders` in as many processes as are started, and a producer that asks it."""

    def __init__(self, stack: Stack, codec: Codec, logs: Path, partitions: int) -> None:
        self.instances: list[Instance] = []
        self.placed: list[str] = []
        self._stack = stack
        self._codec = codec
        self._logs = logs
        self._partitions = partitions
        self._tenant = f"shop-{uuid4().hex[:8]}"

    async def start(self) -> Instance:
        """One more process, once it is ready."""
        # Small batches, so that one that is killed or frozen has heard more than it has committed.
        settings = {"PAVANE_SESSION_TIMEOUT_MS": str(SESSION_MS), "PAVANE_BATCH_RECORDS": "20"}
        environment = {**os.environ, **self._stack.addresses.environment(), **settings, "PAVANE_MANAGEMENT_PORT": "0"}
        number = len(self.instances) + 1
        instance = Instance("orders", number, environment, self._logs / f"orders-{number}.log")
        self.instances.append(instance)
        await eventually(instance.health, within_seconds=30)
        return instance

    async def share(self, *instances: Instance) -> None:
        """Wait until these hold all lanes together, none of them nothing."""

        async def is_so() -> bool:
            held = [await lanes(each) for each in instances]
            return all(held) and sorted(lane for each in held for lane in each) == list(range(self._partitions))

        await eventually(is_so, within_seconds=30, what="the instances share the lanes")

    async def stop(self) -> None:
        await asyncio.gather(*(each.stop() for each in self.instances))

    async def price(self) -> None:
        await self._send(
            SetPrice(
                tenant=self._tenant, sku="lamp", request_id=uuid4().hex, price=Money(amount_minor=100, currency="EUR")
            )
        )

        async def is_known() -> bool:
            return bool(await self.rows("SELECT 1 FROM prices WHERE item = %s", f"{self._tenant}/lamp"))

        await eventually(is_known)

    async def place(self, count: int) -> None:
        """Place so many orders, each asked for twice, as a producer does that got no answer."""
        new = [str(uuid4()) for _ in range(count)]
        self.placed += new
        await self._send(*(self._order(order) for order in new for _ in range(2)))

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self._stack.addresses.postgres["orders"]) as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()

    async def epochs(self) -> dict[int, int]:
        return dict(await self.rows("SELECT partition, epoch FROM lanes"))

    @asynccontextmanager
    async def blocked(self) -> AsyncIterator[None]:
        """Within the block every process that has something to hear waits for its rows, in the middle of a batch."""
        async with await psycopg.AsyncConnection.connect(self._stack.addresses.postgres["orders"]) as connection:
            await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            yield

    async def until_blocked(self, processes: int) -> None:
        waiting = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'pavane-worker' AND wait_event_type = 'Lock'"
        )

        async def are_blocked() -> bool:
            return len(await self.rows(waiting)) == processes

        await eventually(are_blocked, what=f"{processes} processes wait for rows")

    async def until_committed(self, at_least: int) -> None:
        async def are_there() -> bool:
            return len(await self._committed()) >= at_least

        await eventually(are_there, within_seconds=60, what=f"{at_least} orders")

    async def check(self) -> None:
        """Every order was placed once, in the database and in the log, and no lane lacks a fact."""
        await self.until_committed(len(self.placed))
        assert sorted(await self._committed()) == sorted(self.placed)
        facts = await eventually(self._all_facts, within_seconds=30, what="all committed facts are in the log")
        placed = Counter(record.key.decode() for record in facts if dict(record.headers)["ce_type"] == b"OrderPlaced")
        assert {order: placed[order] for order in self.placed} == dict.fromkeys(self.placed, 1)

    async def _committed(self) -> list[str]:
        found = await self.rows("SELECT order_id FROM orders WHERE order_id = ANY(%s)", self.placed)
        return [order for (order,) in found]

    async def _all_facts(self) -> list[Any]:
        """The facts in the log, once there are as many as were committed."""
        committed = dict(await self.rows("SELECT partition, coalesce((clock ->> 'orders')::bigint, 0) FROM lanes"))
        log = await reading.records(self._stack.addresses.kafka_bootstrap, "orders", self._partitions)
        facts = [reading.first_appearances(lane) for lane in log]
        said = all(len(facts[partition]) == sequence for partition, sequence in committed.items())
        return [record for lane in facts for record in lane] if said else []

    def _order(self, order_id: str) -> PlaceOrder:
        return PlaceOrder(
            tenant=self._tenant, order_id=order_id, customer="c", lines=(OrderLine(sku="lamp", quantity=1),),
            currency="EUR", payment_method="card-ok", ship_to=HERE,
        )  # fmt: skip

    async def _send(self, *requests: SetPrice | PlaceOrder) -> None:
        keyed = [(each, each.key.encode()) for each in requests]
        records = [
            (each.topic, partition_of(key, self._partitions), key, self._codec.encode(each), ()) for each, key in keyed
        ]
        await reading.send(self._stack.addresses.kafka_bootstrap, *records)


async def lanes(instance: Instance) -> Sequence[int]:
    health = await instance.health()
    return health["lanes"] if health else ()


def told(instance: Instance, event: str) -> list[dict[str, Any]]:
    """The lines of that event in the log of the process."""
    lines = [json.loads(line) for line in instance.log_file.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def refusals(instance: Instance) -> list[dict[str, Any]]:
    """Batches that came to nothing: another owns the lane, or the database has closed the connection of one who froze
    for longer than a transaction may take."""
    return [*told(instance, "stale_epoch"), *told(instance, "database_away")]


@pytest.fixture
async def orders(stack: Stack, tmp_path: Path) -> AsyncIterator[Orders]:
    codec = Codec(Language.load(), ConfluentRegistry(stack.addresses.registry_url))
    await codec.prepare("orders.requests", [PlaceOrder, SetPrice])
    service = Orders(stack, codec, tmp_path, topics.load()[0].partitions)
    yield service
    await service.stop()


async def test_killing_one_and_freezing_one_loses_doubles_and_reorders_nothing(orders: Orders) -> None:
    first, second = await asyncio.gather(orders.start(), orders.start())
    await orders.share(first, second)
    await orders.price()

    await orders.place(100)
    await orders.until_committed(20)
    lost, before = await lanes(second), await orders.epochs()
    second.kill()
    assert second.child.poll() == -signal.SIGKILL
    await orders.place(100)
    await orders.until_committed(200)
    after = await orders.epochs()
    assert lost
    assert all(after[lane] > before[lane] for lane in lost), "the killed one's lanes were taken over"

    third = await orders.start()
    await orders.share(first, third)
    lost, before = await lanes(first), await orders.epochs()
    async with orders.blocked():
        await orders.place(100)
        await orders.until_blocked(2)
        first.freeze()
        await eventually(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED)
    await orders.until_committed(len(orders.placed))
    after = await orders.epochs()
    assert lost
    assert all(after[lane] > before[lane] for lane in lost), "the frozen one's lanes were taken over"
    refused = len(refusals(first))
    first.thaw()
    await eventually(lambda: len(refusals(first)) > refused, what="the batch that was under way is refused")
    await orders.share(first, third)
    await orders.place(50)
    await orders.check()
