"""Orders that a producer of somebody else's puts on the log: it keeps the contract, or it does not."""

import asyncio
import zlib
from collections.abc import Iterator
from uuid import uuid4

import pytest

from infra import topics
from infra.stack import Stack
from streams.kit.kafka import partition_of
from streams.kit.testing import Shop
from tests.stories.foreign import OF_ITS_OWN, DeadLetter, ForeignProducer, dead_letters
from tests.stories.sagas import CONFIRMED
from tests.waiting import eventually

PARTITIONS = topics.load()[0].partitions


@pytest.fixture
async def shop(shop: Shop) -> Shop:
    """A shop that has five lamps."""
    await shop.price("lamp", 1999)
    await shop.receive("lamp", 5)
    return shop


def order_ids_that_others_put_elsewhere() -> Iterator[str]:
    """Keys for which librdkafka's own partitioner and Java's differ."""
    while True:
        key = str(uuid4())
        if zlib.crc32(key.encode()) % PARTITIONS != partition_of(key.encode(), PARTITIONS):
            yield key


async def test_a_foreign_producer_without_headers_places_an_order(shop: Shop, stack: Stack) -> None:
    order = await ForeignProducer(stack.addresses).place(shop.tenant, "lamp")
    assert await shop.story(order) == CONFIRMED
    assert await shop.stock("lamp") == (4, 0, 1)


async def test_an_order_that_a_producer_sends_twice_is_placed_once(shop: Shop, stack: Stack) -> None:
    producer = ForeignProducer(stack.addresses)
    order = await producer.place(shop.tenant, "lamp")
    await producer.place(shop.tenant, "lamp", order.id)
    assert await shop.story(order) == CONFIRMED
    await producer.place(shop.tenant, "lamp", order.id)
    later = await producer.place(shop.tenant, "lamp")
    assert await shop.story(later) == CONFIRMED
    assert await shop.stock("lamp") == (3, 0, 2)


async def test_a_price_that_a_producer_sends_is_never_used(shop: Shop, stack: Stack) -> None:
    producer = ForeignProducer(stack.addresses, extra_line_field="unit_price_minor")
    shown = await shop.settled(await producer.place(shop.tenant, "lamp", unit_price_minor=1))
    assert (shown.status, shown.total_minor) == ("confirmed", 1999)


async def test_a_request_in_the_wrong_partition_is_a_dead_letter_with_its_reason(shop: Shop, stack: Stack) -> None:
    producer, bootstrap = ForeignProducer(stack.addresses, OF_ITS_OWN), stack.addresses.kafka_bootstrap
    order = await producer.place(shop.tenant, "lamp", next(order_ids_that_others_put_elsewhere()))

    async def put_aside() -> list[DeadLetter]:
        found = await asyncio.to_thread(dead_letters, bootstrap, "orders.dead-letters")
        return [letter for letter in found if letter.key == order.id]

    (letter,) = await eventually(put_aside)
    assert letter.reason == "Undecodable"
    assert "must use the Java-compatible murmur2 partitioner" in letter.message
    assert (await shop.ask("GET", f"/v1/orders/{order.id}", customer=order.customer)).status_code == 404
    right = await ForeignProducer(stack.addresses).place(shop.tenant, "lamp", order.id)
    assert await shop.story(right) == CONFIRMED, "the same order in its own partition"
