"""A replay on the real stack: of a live run, of what was recorded of it, and into databases that are full already.

`RECORD=1 pytest tests/faults/test_replay.py -k recorded` keeps the history of this version in `tests/histories/`.
"""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from pavane.audit import side_by_side
from pavane.http import Connection
from pavane.replay.live import past_of
from pavane.replay.replaying import replay
from pavane.version import version
from streams.inventory.events import OrderPlaced, StockRejected
from streams.inventory.model import Reservation
from streams.inventory.service import inventory
from streams.kit.language import Language
from streams.kit.run import find, services
from streams.kit.service import Said
from streams.kit.writers import HEAD, parsed
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.faults.load import Load
from tests.stories.records import Records
from tests.waiting import eventually

ORDERS = 400 if os.environ.get("RECORD") else 150
KNOWN_SECONDS = 60.0
COMMAND_SECONDS = 120.0
HISTORIES = Path(__file__).parents[1] / "histories"
METRIC = "pavane_records_known_total"
CALLS = "SELECT (SELECT count(*) FROM payment_calls), (SELECT count(*) FROM booking_calls)"
DECIDING = [name for name in services() if not find(name).is_projection]
pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared_ground(own_ground: Ground) -> Ground:
    """Where no stranger's records are, behind which a replay cannot tell."""
    return own_ground


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_live_run_is_decided_the_same_again_recorded_and_not_changed_when_it_is_heard_again(
    ground: Ground, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with under_load(ground, seed, ORDERS) as load:
        load.allowed_ends = frozenset({"DEADLINE"})
        await load.accepted(ORDERS // 4)
        await a_deadline_passes(ground, load)
        await stock_is_corrected(ground, load)
    calls = await ground.rows("world", CALLS)

    await every_decision_is_the_same(ground)
    await a_planted_change_is_the_only_difference(ground, monkeypatch)
    await what_was_recorded_is_the_same_too(ground, tmp_path / "history")
    assert await ground.rows("world", CALLS) == calls, "a replay asked the outside world"

    before = await everything_held(ground)
    heard_again = await heard_from_the_start(ground)
    assert heard_again > 10 * ORDERS
    after = await everything_held(ground)
    assert after == before, [name for name in before if after[name] != before[name]]
    assert await ground.rows("world", CALLS) == calls


async def a_deadline_passes(ground: Ground, load: Load) -> None:
    """Of an order whose stock nobody sets aside, as inventory is away."""
    await asyncio.gather(*(each.stop() for each in ground.running("inventory")))
    order = await load.shop.place("lamp")
    await load.shop.told(order, "OrderPlaced")
    await Records(ground.stack.addresses.postgres).let_the_deadline_pass(order)
    await load.shop.told(order, "OrderCancelled")
    await started(ground, "inventory")


async def stock_is_corrected(ground: Ground, load: Load) -> None:
    before = await load.shop.stock("leaflet")
    fields = {"tenant": load.shop.tenant, "sku": "leaflet", "quantity": 7, "reason": "found", "request_id": "found-7"}
    await asyncio.to_thread(ask, ground, "inventory.requests", "AdjustStock", f"{load.shop.tenant}/leaflet", fields)

    async def is_corrected() -> bool:
        return sum(await load.shop.stock("leaflet")) == sum(before) + 7

    await eventually(is_corrected, KNOWN_SECONDS, "seven leaflets more are there")


def ask(ground: Ground, topic: str, name: str, key: str, fields: Mapping[str, Any]) -> None:
    """Append a request, as a producer outside does."""
    schema = Language.load().latest(topic, name)
    registry = SchemaRegistryClient({"url": ground.stack.addresses.registry_url})
    schema_id = registry.lookup_schema(schema.subject, Schema(schema.text, "AVRO")).schema_id
    value = BytesIO()
    value.write(HEAD.pack(0, schema_id))
    fastavro.schemaless_writer(value, parsed(schema.raw), dict(fields))
    producer = Producer({"bootstrap.servers": ground.stack.addresses.kafka_bootstrap, "partitioner": "murmur2_random"})
    producer.produce(topic, value.getvalue(), key.encode())
    assert producer.flush(KNOWN_SECONDS) == 0


async def every_decision_is_the_same(ground: Ground) -> None:
    for name in DECIDING:
        code, report = await replayed(ground, name)
        assert code == 0, report
        assert report["same"] is True
        assert report["decisions"] > ORDERS
        assert report["not_told"] == report["waiting"] == 0
        print(  # noqa: T201
            f"{name}: {report['decisions']} decisions, {report['settled_by_order']} settled by the order of lanes, "
            f"{report['seconds']} s"
        )


async def a_planted_change_is_the_only_difference(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Today's inventory would sell nothing that costs nothing."""
    reaction = inventory.reactions[OrderPlaced]

    def sells_no_leaflets(reservation: Reservation, placed: OrderPlaced, stocks: Mapping[str, Any]) -> Iterator[Said]:
        if placed.lines[0].sku == "leaflet":
            yield StockRejected(tenant=placed.tenant, order_id=placed.order_id, missing=())
        else:
            yield from reaction.decide(reservation, placed, stocks) or ()

    with monkeypatch.context() as planted:
        planted.setitem(inventory.reactions, OrderPlaced, reaction._replace(decide=sells_no_leaflets))

        # As of a log that is longer than what is in memory of it.
        planted.setattr(side_by_side, "READ_AHEAD_RECORDS", 50)

        def replay_live() -> Any:
            with past_of(inventory, environment(ground)) as past:
                return replay(inventory, past)

        report = await asyncio.to_thread(replay_live)
    [group] = report.groups.values()
    assert group.reaction == "OrderPlaced -> sells_no_leaflets"
    assert group.reason == "would be StockRejected instead of StockReserved"
    assert "leaflet" in group.example.was


async def what_was_recorded_is_the_same_too(ground: Ground, folder: Path) -> None:
    code, told = await pavane(ground, "history", "record", str(folder))
    assert code == 0, told
    for name in DECIDING:
        code, report = await replayed(ground, name, "--history", str(folder))
        assert code == 0, report
        assert report["decisions"] > ORDERS
    code, told = await pavane(ground, "history", "record", str(folder))
    assert code == 2, "a history was written over"
    if os.environ.get("RECORD"):
        kept = HISTORIES / version()
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)


# -- heard from the start ----------------------------------------------------------------------------------------------


async def heard_from_the_start(ground: Ground) -> int:
    """Every service reads the whole log again, into the database that it has; how many records each knew already."""
    for name in services():
        await asyncio.gather(*(each.stop() for each in ground.running(name)))
        await asyncio.to_thread(put_back_to_start, ground.stack.addresses.postgres[name])
    await asyncio.gather(*(started(ground, name) for name in services()))
    least = 0
    for name in services():
        records = await asyncio.to_thread(log_records, ground, find(name).topics)
        await known_at_least(ground, name, records)
        least += records
    return least


async def started(ground: Ground, name: str) -> None:
    await ground.ready(ground.launch(name))


def put_back_to_start(url: str) -> None:
    """As if nothing had been read: positions say only where to seek, what was heard is the clock's to know."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "UPDATE lanes SET positions = (SELECT jsonb_object_agg(topic, 0) FROM jsonb_object_keys(positions) topic)"
        )


async def known_at_least(ground: Ground, name: str, records: int) -> None:
    [instance] = ground.running(name)

    async def all_known() -> bool:
        connection = Connection(instance.url, KNOWN_SECONDS)
        try:
            answer = await connection.ask("GET", "/metrics")
        finally:
            connection.close()
        [told] = [line for line in answer.body.decode().splitlines() if line.startswith(METRIC + "{")]
        return float(told.rpartition(" ")[2]) >= records

    await eventually(all_known, KNOWN_SECONDS, f"{name} passes over all {records} records")


async def everything_held(ground: Ground) -> dict[str, Any]:
    """All rows of all services, what their lanes know, and where the log ends."""
    held: dict[str, Any] = {}
    for name in services():
        for state in find(name).states:
            rows = await ground.rows(name, f"SELECT to_jsonb(r)::text, 0 FROM {state.table} r ORDER BY 1")
            held[f"{name}.{state.table}"] = rows
        held[f"{name}.lanes"] = await ground.rows(name, "SELECT partition, clock FROM lanes ORDER BY 1")
    for topic in {topic for name in services() for topic in (*find(name).topics, name)} - {"timeline"}:
        held[topic] = await asyncio.to_thread(log_records, ground, [topic])
    return held


def log_records(ground: Ground, topics: Any) -> int:
    """How many records the topics hold."""
    consumer = Consumer({"bootstrap.servers": ground.stack.addresses.kafka_bootstrap, "group.id": "looking"})
    try:
        found = consumer.list_topics(timeout=10).topics
        places = [TopicPartition(topic, partition) for topic in topics for partition in found[topic].partitions]
        return sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
    finally:
        consumer.close()


# -- the command -------------------------------------------------------------------------------------------------------


def environment(ground: Ground) -> dict[str, str]:
    return {**os.environ, **ground.stack.addresses.environment()}


async def replayed(ground: Ground, service: str, *words: str) -> tuple[int, Any]:
    code, told = await pavane(ground, "replay", service, "--dry-run", "--json", *words)
    return code, json.loads(told) if code in (0, 1) else told


async def pavane(ground: Ground, *words: str) -> tuple[int, str]:
    """Run a command as an operator does; its exit code, and what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pavane.main", *words, env=environment(ground), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    assert process.returncode is not None
    return process.returncode, told.decode()
