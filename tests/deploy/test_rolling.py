"""A version is rolled out and back while orders flow: no order ends wrong or hangs, as `can-deploy` said each time."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from contracts import registry
from infra.stack import Stack
from pavane.audit.decoding import Decoder
from pavane.audit.live import Registry
from pavane.audit.log import LogReader
from streams.kit.language import Language
from tests.deploy import versions
from tests.faults.harness import ALL, Ground, a_ground, seeds, under_load
from tests.faults.load import Load
from tests.waiting import eventually

PLACED_BY_EACH = 60
ORDERS = 400
pytestmark = [pytest.mark.stack, pytest.mark.timeout(540)]


class Said(NamedTuple):
    """What orders has said in one schema version: facts of `OrderPlaced`, and of orders that were not taken."""

    placed: int
    rejected: int


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    """A stack of its own: its registry gets a version that is not released."""
    async with Stack(tmp_path / "stack") as stack, a_ground(stack) as ground:
        yield ground


async def ask(ground: Ground, *words: str, code: int) -> Any:
    """What `pavane can-deploy` answers."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane", "can-deploy", *words, "--json"),
        env={**os.environ, **ground.stack.addresses.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == code, f"{process.returncode}: {said.decode()} {complaint.decode()}"
    return json.loads(said) if said else complaint.decode()


async def roll(ground: Ground, checkout: Path) -> None:
    """One process of the other version comes before the one that runs goes: for a while both are in the group."""
    [before] = ground.running("orders")
    words = {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    after = ground.launch("orders", environment=words)
    await ground.ready(after)
    epochs = await ground.epochs("orders")
    await before.stop()
    await ground.until_taken_over("orders", epochs)


async def said_by(ground: Ground) -> tuple[Said, Said]:
    """What orders has said in the first version, and in the second."""
    return await asyncio.to_thread(_said_by, ground)


def _said_by(ground: Ground) -> tuple[Said, Said]:
    addresses = ground.stack.addresses
    reader, known = LogReader(addresses.kafka_bootstrap), Registry(addresses.registry_url)
    decoder = Decoder(Language.load(), known.schema_of)
    placed, rejected = [0, 0], [0, 0]
    try:
        ends = reader.ends(["orders"], reader.partition_count(["orders"]))
        for record in reader.records(["orders"], ends):
            name, fields = decoder.decode("orders", record.value)
            if name == "OrderPlaced":
                assert record.value is not None
                text = known.schema_of(int.from_bytes(record.value[1:5], "big")) or ""
                placed["channel" in text] += 1
            elif name == "OrderRejected":
                rejected[versions.SECOND_DETAIL in fields["detail"]] += 1
    finally:
        reader.close()
    first, second = zip(placed, rejected, strict=True)
    return Said(*first), Said(*second)


async def until_said(ground: Ground, load: Load, number: int, more_than: Said) -> Said:
    """Wait until a version has placed and rejected some orders more."""

    async def enough() -> Said | None:
        await load.accepted(load.placed + PLACED_BY_EACH)
        said = (await said_by(ground))[number]
        return said if said.placed > more_than.placed and said.rejected > more_than.rejected else None

    found: Said = await eventually(enough, 120, f"version {number + 1} says its facts")
    return found


@pytest.mark.skipif(not ALL, reason="long: make faults")
@pytest.mark.parametrize("seed", seeds())
async def test_a_schema_and_a_reaction_are_rolled_out_and_back_under_load(
    ground: Ground, tmp_path: Path, seed: int
) -> None:
    second = versions.second(tmp_path / "second")
    broken = versions.broken(tmp_path / "broken")
    deaf = versions.deaf(tmp_path / "deaf")
    url = ground.stack.addresses.registry_url
    async with under_load(ground, seed, ORDERS) as load:
        before = await until_said(ground, load, 0, Said(0, 0))
        refused = await ask(ground, "orders", "--as", str(second), code=1)
        assert [reason["what"] for reason in refused["reasons"]] == [
            "the registry does not have OrderPlaced of orders as this version says it: it would not start."
        ]
        await asyncio.to_thread(registry.push, url, Language.load(second / "schemas"))
        allowed = await ask(ground, "orders", "--as", str(second), code=0)
        first = allowed["running"]["orders"][0]["version"]
        assert first != allowed["version"]

        told, of_deaf = await asyncio.gather(
            ask(ground, "orders", "--as", str(broken), code=1), ask(ground, "orders", "--as", str(deaf), code=1)
        )
        assert {reason["where"].split()[0] for reason in told["reasons"]} >= {"inventory", "shipping", "timeline"}
        assert all("'lines'" in reason["what"] for reason in told["reasons"] if reason["where"].startswith("inventory"))
        (reason,) = of_deaf["reasons"]
        assert "does not react to ShipmentRejected of shipping, and the version that runs does" in reason["what"]
        assert of_deaf["orders_in_flight"] > 0

        await roll(ground, second)
        later = await until_said(ground, load, 1, Said(0, 0))
        back = await ask(ground, "orders", "--as", first, code=0)
        assert back["version"] == first
        assert allowed["version"] in {each["version"] for each in back["running"]["orders"]}
        await roll(ground, versions.ROOT)
        again = await until_said(ground, load, 0, (await said_by(ground))[0])
    assert (await said_by(ground))[1] >= later, "the second version's facts are in the log for ever"
    assert again.placed > before.placed, f"seed {seed}: the first version did not come back"
    assert len(SchemaRegistryClient({"url": url}).get_versions("orders-pavane.orders.OrderPlaced")) == 2
