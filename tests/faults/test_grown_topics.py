"""Topics are given more partitions under load: no order is lost, and one command settles what went astray."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from infra.stack import Stack
from pavane.audit import EvidenceMissing, audit
from pavane.instance import LaneHalted
from pavane.lanes.settling import Settle
from pavane.operators.reach import Reach
from streams.kit.kafka import partition_of
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry
from streams.kit.run import services
from tests.faults.harness import LONG, Ground, a_ground, seeds, under_load
from tests.faults.strangers import TOPIC, Stranger, asked_for
from tests.waiting import eventually

LANES, GROWN = 4, 7
ORDERS_OF_STRANGERS = 50
NOTICED_SECONDS = 60.0
pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture
async def shared_ground(tmp_path: Path) -> AsyncIterator[Ground]:
    """A stack of its own for each: a topic never shrinks again."""
    async with Stack(tmp_path / "own", environment={}) as stack, a_ground(stack) as ground:
        yield ground


async def grow(bootstrap: str, *topics: str) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    wanted = [NewPartitions(topic, GROWN) for topic in topics]
    for grown in client.create_partitions(wanted, operation_timeout=10.0).values():
        await asyncio.to_thread(grown.result, 10.0)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_topics_that_grow_under_load_cost_no_order(ground: Ground, seed: int, tmp_path: Path) -> None:
    addresses = ground.stack.addresses
    environment = addresses.environment()
    stranger = Stranger(addresses)
    await stranger.learn()
    async with under_load(ground, seed) as load:
        await grow(addresses.kafka_bootstrap, TOPIC, "orders", "billing")
        # Two share the lanes of what has grown, and one of them only knows it so.
        await ground.ready(ground.launch("orders"))

        asked = [asked_for(load.shop.tenant) for _ in range(ORDERS_OF_STRANGERS)]
        records = [(request.key.encode(), stranger.encode(request)) for request in asked]
        astray = [each for each in records if partition_of(each[0], GROWN) >= LANES]
        for key, value in astray:
            await stranger.send(key, value, partition=partition_of(key, GROWN))
        [noticing, _] = ground.running("orders")

        async def is_noticed() -> bool:
            try:
                await noticing.health()
            except LaneHalted as halted:
                return f"{TOPIC}/" in str(halted) and "pavane lanes settle" in str(halted)
            return False

        await eventually(is_noticed, NOTICED_SECONDS, "what went astray is noticed")
        with pytest.raises(EvidenceMissing, match=f"{TOPIC}/. has .* records that nobody hears"):
            await audit({**environment})

        databases = {name: addresses.postgres[name] for name in services()}
        registry = ConfluentRegistry(addresses.registry_url)
        desk = Reach(databases, addresses.kafka_bootstrap, registry, Language.load())
        keep = tmp_path / "astray.jsonl"
        assert await Settle(desk, None, keep).carry_out("ada", "it had grown", asks=False, dry_run=False) == 0
        assert len(keep.read_text().splitlines()) == len(astray) > 0
    ends = dict(await ground.rows("orders", "SELECT order_id, status FROM orders WHERE tenant = %s", load.shop.tenant))
    assert {key.decode() for key, _ in astray} <= {str(order) for order in ends}, "what went astray is placed"
