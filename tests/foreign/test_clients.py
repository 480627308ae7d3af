"""Programs that we did not write place orders and read facts: every fact, header and value is what it should be."""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from pavane.audit.decoding import Decoder
from pavane.audit.live import Registry
from pavane.audit.log import LogReader
from pavane.platform import Platform
from streams.kit.events import milliseconds
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.shop import Order, Shop
from tests.foreign import java
from tests.foreign.conftest import Client
from tests.stories.sagas import CONFIRMED
from tests.waiting import eventually

TOPICS = ("orders", "inventory", "billing", "shipping")
CALLED_OFF = {"OrderPlaced", "StockRejected", "OrderCancelled", "InvoiceOpened", "InvoiceCancelled"}
pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


def facts_of(platform: Platform, order: Order) -> list[tuple[Record, dict[str, Any]]]:
    """Every fact of an order, as our own reader has it."""
    addresses = platform.stack.addresses
    decoder = Decoder(Language.load(), Registry(addresses.registry_url).schema_of)
    reader = LogReader(addresses.kafka_bootstrap)
    try:
        ends = reader.ends(TOPICS, reader.partition_count(TOPICS))
        records = [each for each in reader.records(TOPICS, ends) if each.key == order.id.encode()]
        return [(each, decoder.decode(each.topic, each.value)[1]) for each in records]
    finally:
        reader.close()


def length(bootstrap: str, topic: str) -> int:
    """How many records a topic has."""
    reader = LogReader(bootstrap)
    try:
        return sum(reader.ends([topic], reader.partition_count([topic])).values())
    finally:
        reader.close()


def expected(facts: list[tuple[Record, dict[str, Any]]], *, times_as_numbers: bool) -> list[dict[str, Any]]:
    """What a program of the page should print, in any order."""

    def value(found: Any) -> Any:
        if isinstance(found, Mapping):
            return {name: value(each) for name, each in found.items()}
        if isinstance(found, datetime):
            return milliseconds(found) if times_as_numbers else str(found)
        return [value(each) for each in found] if isinstance(found, list) else found

    return sorted(
        (
            {
                "at": [record.topic, record.partition, record.offset],
                "headers": {name: text.decode() for name, text in record.headers},
                "fact": value(fact),
            }
            for record, fact in facts
        ),
        key=lambda each: each["at"],
    )


@pytest.fixture(scope="module")
async def placed(clients: Mapping[str, Client], shop: Shop) -> dict[str, Order]:
    """One order by each program; of the last there are no lamps left."""
    orders = {}
    for name, client in clients.items():
        orders[name] = await client.place(shop, "lamp")
        await shop.settled(orders[name])
    return orders


async def test_orders_of_foreign_programs_end_as_all_others(placed: Mapping[str, Order], shop: Shop) -> None:
    first, second, third = [await shop.story(order) for order in placed.values()]
    assert first == second == CONFIRMED
    assert set(third) >= CALLED_OFF, "two lamps for three customers"
    assert await shop.stock("lamp") == (0, 0, 2)


@pytest.mark.parametrize("name", ["with_aiokafka.py", "with_confluent.py", "WithJava.java"])
async def test_a_foreign_program_reads_every_fact_and_header(
    name: str, clients: Mapping[str, Client], placed: Mapping[str, Order], platform: Platform, shop: Shop
) -> None:
    for order in placed.values():
        facts = await asyncio.to_thread(facts_of, platform, order)
        assert len(facts) == len(await shop.story(order))
        wanted = expected(facts, times_as_numbers=name.endswith(".java"))
        assert sorted(await clients[name].read(order), key=lambda each: each["at"]) == wanted


async def test_kafkas_console_consumer_shows_keys_and_headers(placed: Mapping[str, Order], platform: Platform) -> None:
    shows = ["print.key=true", "print.headers=true", "print.partition=true", "print.offset=true", "print.value=false"]
    bootstrap = platform.stack.addresses.kafka_bootstrap
    for topic in TOPICS:
        options = ["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--timeout-ms", "60000"]
        options += ["--max-messages", str(await asyncio.to_thread(length, bootstrap, topic))]
        formats = [word for each in shows for word in ("--formatter-property", each)]
        said = (await java.output(java.words(java.CONSOLE_CONSUMER, *options, *formats))).splitlines()
        for order in placed.values():
            facts = [record for record, _ in await asyncio.to_thread(facts_of, platform, order)]
            wanted = {
                "\t".join((
                    f"Partition:{record.partition}",
                    f"Offset:{record.offset}",
                    ",".join(f"{name}:{text.decode()}" for name, text in record.headers),
                    order.id,
                ))
                for record in facts
                if record.topic == topic
            }  # fmt: skip
            assert {line for line in said if line.endswith(order.id)} == wanted


@pytest.mark.parametrize("service", ["orders", "inventory", "billing", "shipping", "timeline"])
async def test_kafkas_consumer_groups_shows_that_nothing_lags(
    service: str, placed: Mapping[str, Order], platform: Platform
) -> None:
    command = java.words(
        java.CONSUMER_GROUPS, "--bootstrap-server", platform.stack.addresses.kafka_bootstrap, "--describe", "--group",
        service,
    )  # fmt: skip

    async def caught_up() -> list[list[str]]:
        """Group, topic, partition, position, end, lag, of every partition with records; none while one lags."""
        lines = [re.split(r"\s+", line) for line in (await java.output(command)).splitlines()]
        shown = [line[:6] for line in lines if line[0] == service and line[4] not in ("0", "-")]
        return shown if all(line[5] == "0" and line[3] == line[4] for line in shown) else []

    shown = await eventually(caught_up, 90, f"{service} has told Kafka how far it has heard")
    assert {line[1] for line in shown}, "it has heard something"
