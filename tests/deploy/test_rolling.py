"""A version is rolled out and back while orders flow: no order ends wrong or hangs, as `can-deploy` said each time."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient

from contracts import registry
from infra.stack import Stack
from pavane.audit.decoding import Decoder
from pavane.audit.live import Registry
from pavane.audit.log import LogReader
from pavane.instance import GATEWAY
from streams.kit.language import Language
from tests.deploy import versions
from tests.faults.harness import LONG, Ground, a_ground, seeds, under_load
from tests.faults.load import Load
from tests.waiting import eventually

PLACED_BY_EACH = 60
ORDERS = 400
pytestmark = [pytest.mark.stack, pytest.mark.timeout(540)]


class Written(NamedTuple):
    """One event of the log, by which schema it was written, and what it answers."""

    name: str
    fields: dict[str, Any]
    schema: str
    cause: str

    @property
    def tells_channel(self) -> bool:
        """It is of the version that is not released."""
        return '"channel"' in self.schema

    @property
    def calls_off_what_is_reserved(self) -> bool:
        """Only the added reaction says so."""
        why = self.fields.get("reason")
        return (self.name, why) == ("OrderCancelled", "NOT_SHIPPABLE") and self.cause.startswith("inventory/")


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


def code_of(checkout: Path) -> dict[str, str]:
    """What a process is started with that runs this version."""
    return {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}


async def roll(ground: Ground, checkout: Path) -> None:
    """One process of the other version comes before the one that runs goes: for a while both are in the group."""
    [before] = ground.running("orders")
    after = ground.launch("orders", environment=code_of(checkout))
    await ground.ready(after)
    epochs = await ground.epochs("orders")
    await before.stop()
    await ground.until_taken_over("orders", epochs)


async def written(ground: Ground, topic: str) -> list[Written]:
    """All that is on the topic now."""
    return await asyncio.to_thread(_written, ground, topic)


def _written(ground: Ground, topic: str) -> list[Written]:
    addresses = ground.stack.addresses
    reader, known = LogReader(addresses.kafka_bootstrap), Registry(addresses.registry_url)
    decoder = Decoder(Language.load(), known.schema_of)
    found = []
    try:
        for record in reader.records([topic], reader.ends([topic], reader.partition_count([topic]))):
            assert record.value is not None
            schema = known.schema_of(int.from_bytes(record.value[1:5], "big")) or ""
            cause = (dict(record.headers).get("cause") or b"").decode()
            found.append(Written(*decoder.decode(topic, record.value), schema, cause))
    finally:
        reader.close()
    return found


async def said_by(ground: Ground) -> tuple[Said, Said]:
    """What orders has said in the first version, and in the second."""
    said = await written(ground, "orders")
    placed = Counter(each.tells_channel for each in said if each.name == "OrderPlaced")
    rejected = Counter(
        versions.SECOND_DETAIL in each.fields["detail"] for each in said if each.name == "OrderRejected"
    )
    return Said(placed[False], rejected[False]), Said(placed[True], rejected[True])


async def until_said(ground: Ground, load: Load, number: int, more_than: Said) -> Said:
    """Wait until a version has placed and rejected some orders more."""

    async def enough() -> Said | None:
        await load.accepted(load.placed + PLACED_BY_EACH)
        said = (await said_by(ground))[number]
        return said if said.placed > more_than.placed and said.rejected > more_than.rejected else None

    found: Said = await eventually(enough, 120, f"version {number + 1} says its facts")
    return found


@LONG
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


async def until_written(ground: Ground, load: Load, topic: str, what: Callable[[Written], bool], more_than: int) -> int:
    """Wait until the topic has more of this; how many it has."""

    async def enough() -> int:
        await load.accepted(load.placed + PLACED_BY_EACH)
        count = sum(map(what, await written(ground, topic)))
        return count if count > more_than else 0

    found: int = await eventually(enough, 120, f"{topic} has more than {more_than} of {what.__name__}")
    return found


async def roll_the_gateway(ground: Ground, load: Load, checkout: Path, *, tells_channel: bool) -> None:
    """It is served at one address, so one version ends before the other comes: customers ask again meanwhile."""

    def of_this_version(event: Written) -> bool:
        return event.name == "PlaceOrder" and event.tells_channel is tells_channel

    before = sum(map(of_this_version, await written(ground, "orders.requests")))
    await ground.ready(await ground.replace(GATEWAY, environment=code_of(checkout)))
    await until_written(ground, load, "orders.requests", of_this_version, before + PLACED_BY_EACH)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_gateway_that_asks_more_is_rolled_out_and_back_under_load(
    ground: Ground, tmp_path: Path, seed: int
) -> None:
    asking = versions.asking(tmp_path / "asking")
    async with under_load(ground, seed, ORDERS) as load:
        await load.accepted(PLACED_BY_EACH)
        refused = await ask(ground, GATEWAY, "--as", str(asking), code=1)
        assert [reason["what"] for reason in refused["reasons"]] == [
            "the registry does not have PlaceOrder of orders.requests as this version says it: it would not start."
        ]
        await asyncio.to_thread(registry.push, ground.stack.addresses.registry_url, Language.load(asking / "schemas"))
        allowed = await ask(ground, GATEWAY, "--as", str(asking), code=0)
        first = allowed["running"][GATEWAY][0]["version"]
        await roll_the_gateway(ground, load, asking, tells_channel=True)

        back = await ask(ground, GATEWAY, "--as", first, code=0)
        assert allowed["version"] in {each["version"] for each in back["running"][GATEWAY]}
        await ask(ground, "orders", code=0)
        await roll_the_gateway(ground, load, versions.ROOT, tells_channel=False)


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_an_added_reaction_is_rolled_out_under_load_and_back_when_no_order_needs_it(
    ground: Ground, tmp_path: Path, seed: int
) -> None:
    reacting = versions.reacting(tmp_path / "reacting")
    async with under_load(ground, seed, ORDERS) as load:
        load.allowed_ends = frozenset({"NOT_SHIPPABLE"})
        await load.accepted(PLACED_BY_EACH)
        allowed = await ask(ground, "orders", "--as", str(reacting), code=0)
        assert any("reacts to StockReserved of inventory from now on" in note for note in allowed["notes"])
        first = allowed["running"]["orders"][0]["version"]
        await roll(ground, reacting)
        await until_written(ground, load, "orders", lambda event: event.calls_off_what_is_reserved, 5)

        (reason,) = (await ask(ground, "orders", "--as", first, code=1))["reasons"]
        assert reason["what"].startswith("does not react to StockReserved of inventory, and the version that runs does")
        assert reason["remedy"].startswith("Stop taking orders until none is in flight and none is unread")
    # No order is taken any more, and none is in flight: what the answer asked for.
    await ask(ground, "orders", "--as", first, code=0)
    await roll(ground, versions.ROOT)
    called_off = sum(each.calls_off_what_is_reserved for each in await written(ground, "orders"))
    async with under_load(ground, seed + 1, ORDERS // 2):
        pass
    assert sum(each.calls_off_what_is_reserved for each in await written(ground, "orders")) == called_off > 5
