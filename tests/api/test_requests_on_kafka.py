"""Requests onto the real log: where they lie, what they carry, and what a broker in trouble does to them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2
from redis.asyncio import Redis

from api.errors import NotAccepted, OutcomeUnknown, Unavailable
from api.events import ReceiveStock
from api.log import RequestLog
from streams.kit.codec import Codec
from streams.kit.events import Heard
from streams.kit.language import Language
from streams.kit.protection import is_protected
from streams.kit.registry import ConfluentRegistry
from tests.api.conftest import (
    NOWHERE,
    as_customer,
    as_operator,
    eventually,
    frozen,
    new_key,
    order,
    partitions_of,
    records_of,
)
from tests.waiting import eventually as becomes

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class PlaceOrder(Heard, topic="orders.requests"):
    """What a consumer of the request reads."""

    tenant: str
    order_id: str
    customer: str


def codec(environment: dict[str, str]) -> Codec:
    return Codec(Language.load(), ConfluentRegistry(environment["PAVANE_REGISTRY"]))


@asynccontextmanager
async def request_log(environment: dict[str, str], bootstrap: str, patience: float) -> AsyncIterator[RequestLog]:
    async def open_codec() -> Codec:
        return codec(environment)

    log = RequestLog(bootstrap, open_codec, patience_seconds=patience)
    log.start()
    yield log
    await log.close()


def receipt(sku: str) -> ReceiveStock:
    return ReceiveStock(tenant="shop", sku=sku, quantity=1, request_id="r1")


async def test_an_accepted_order_is_on_the_log_for_any_consumer(shop: httpx.AsyncClient, environment: dict[str, str]):
    key = new_key()
    headers = as_customer("buyer-of-a-lamp", idempotency_key=key, x_correlation_id="web-42", traceparent=TRACEPARENT)
    answer = await shop.post("/v1/orders", json=order(), headers=headers)

    order_id = answer.json()["order_id"]
    (record,) = await records_of(environment["PAVANE_KAFKA"], "orders.requests", order_id)
    told = dict(record.headers)
    assert (told["ce_specversion"], told["ce_type"], told["ce_source"]) == (b"1.0", b"PlaceOrder", b"gateway")
    assert (told["correlation"], told["traceparent"]) == (b"web-42", TRACEPARENT.encode())
    assert len(told["ce_id"]) == 36
    reader = codec(environment)
    await reader.learn([record.value])
    placed = reader.decode(record.value, PlaceOrder, {})
    assert (placed.tenant, placed.order_id, is_protected(placed.customer)) == ("shop", order_id, True)
    assert b"buyer-of-a-lamp" not in record.value and b"Lovelace" not in record.value


async def test_records_lie_where_java_clients_look_for_them(shop: httpx.AsyncClient, environment: dict[str, str]):
    answer = await shop.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=new_key()))

    order_id, bootstrap = answer.json()["order_id"], environment["PAVANE_KAFKA"]
    (record,) = await records_of(bootstrap, "orders.requests", order_id)
    assert record.partition == java_partition(order_id, len(await partitions_of(bootstrap, "orders.requests")))


def test_the_partitioner_is_javas():
    """Values of org.apache.kafka.common.utils.UtilsTest.testMurmur2."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}

    assert {key: (murmur2(key) + 2**31) % 2**32 - 2**31 for key in known} == known


async def test_a_retry_is_answered_from_memory_and_appends_nothing(
    shop: httpx.AsyncClient, environment: dict[str, str]
):
    headers = as_customer(idempotency_key=new_key())

    first = await shop.post("/v1/orders", json=order(), headers=headers)
    second = await shop.post("/v1/orders", json=order(), headers=headers)

    assert (second.status_code, second.content) == (202, first.content)
    assert second.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(await records_of(environment["PAVANE_KAFKA"], "orders.requests", first.json()["order_id"])) == 1


async def test_a_key_belongs_to_its_body_and_its_customer(shop: httpx.AsyncClient):
    key = new_key()
    await shop.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=key))

    other_body = await shop.post("/v1/orders", json=order(currency="USD"), headers=as_customer(idempotency_key=key))
    other_customer = await shop.post("/v1/orders", json=order(), headers=as_customer("c8", idempotency_key=key))

    assert [other_body.status_code, other_customer.status_code] == [422, 422]
    assert other_body.json()["type"] == "/problems/idempotency-key-reused"


async def test_a_price_under_a_key_is_set_once_and_a_late_retry_does_not_undo_another(
    shop: httpx.AsyncClient, environment: dict[str, str]
):
    address, headers = f"/v1/prices/{new_key()}", as_operator(idempotency_key=new_key())
    price = {"amount_minor": 600, "currency": "EUR"}

    first = await shop.put(address, json=price, headers=headers)
    between = await shop.put(address, json={**price, "amount_minor": 700}, headers=as_operator())
    retry = await shop.put(address, json=price, headers=headers)
    other_price = await shop.put(address, json={**price, "amount_minor": 800}, headers=headers)

    assert [answer.status_code for answer in (first, between, retry, other_price)] == [202, 202, 202, 422]
    assert (retry.content, retry.headers["idempotency-replayed"]) == (first.content, "true")
    assert other_price.json()["type"] == "/problems/idempotency-key-reused"
    item = f"shop/{address.rpartition('/')[2]}"
    assert len(await records_of(environment["PAVANE_KAFKA"], "orders.requests", item)) == 2


async def test_a_retry_after_redis_forgot_everything_names_the_same_order(
    shop: httpx.AsyncClient, environment: dict[str, str]
):
    headers = as_customer(idempotency_key=new_key())
    first = await shop.post("/v1/orders", json=order(), headers=headers)
    async with Redis.from_url(environment["PAVANE_REDIS"]) as redis:
        assert await redis.delete(f"pavane:gateway:once:{first.json()['order_id']}") == 1

    second = await shop.post("/v1/orders", json=order(), headers=headers)

    assert "idempotency-replayed" not in second.headers
    assert second.json() == first.json()


async def test_connections_that_redis_closed_are_replaced_unnoticed(
    shop: httpx.AsyncClient, environment: dict[str, str]
):
    headers = as_customer(idempotency_key=new_key())
    await shop.post("/v1/orders", json=order(), headers=headers)
    async with Redis.from_url(environment["PAVANE_REDIS"]) as redis:
        assert await redis.client_kill_filter(_type="normal", skipme=True) > 0

    again = await shop.post("/v1/orders", json=order(), headers=headers)

    assert again.headers["idempotency-replayed"] == "true"


async def test_a_receipt_sent_again_is_answered_again(shop: httpx.AsyncClient, environment: dict[str, str]):
    sku, headers = f"lamp-{uuid4()}", as_operator(idempotency_key=new_key())

    for _ in range(2):
        answer = await shop.post(f"/v1/stock/{sku}/receipts", json={"quantity": 5}, headers=headers)

    assert answer.headers["idempotency-replayed"] == "true"
    assert len(await records_of(environment["PAVANE_KAFKA"], "inventory.requests", f"shop/{sku}")) == 1


async def test_a_broker_that_is_not_there_takes_nothing(environment: dict[str, str]):
    async with request_log(environment, NOWHERE, patience=0.3) as log:
        with pytest.raises(NotAccepted):
            await log.append(receipt("lamp"), "c-1", None)
        with pytest.raises(ConnectionError):
            await log.reachable()


async def test_a_broker_that_stands_still_leaves_the_outcome_unknown_and_takes_the_record_later(
    stack: Any, environment: dict[str, str]
):
    if not stack.kafka:
        pytest.skip("the broker is not ours to freeze")
    sku, bootstrap = f"lamp-{uuid4()}", environment["PAVANE_KAFKA"]
    async with request_log(environment, bootstrap, patience=1.0) as log:
        await eventually(lambda: _accepts(log, receipt(sku)))
        with frozen(stack.kafka[0].pid), pytest.raises(OutcomeUnknown):
            await log.append(receipt(sku), "c-1", None)

        async def came_later() -> bool:
            return len(await records_of(bootstrap, "inventory.requests", f"shop/{sku}")) == 2

        await eventually(came_later)
        await eventually(lambda: _accepts(log, receipt(sku)))


async def test_after_a_failure_that_is_not_retried_a_new_producer_takes_over(environment: dict[str, str]):
    sku = f"lamp-{uuid4()}"
    async with request_log(environment, environment["PAVANE_KAFKA"], patience=5.0) as log:
        await eventually(lambda: _accepts(log, receipt(sku)))
        broken = log._producer
        # The broker must refuse this record: a thousand before it seem to be lost.
        place = await _place_of(broken, "inventory.requests", f"shop/{sku}")
        broken._txn_manager.increment_sequence_number(place, 1_000)

        with pytest.raises(OutcomeUnknown):
            await log.append(receipt(sku), "c-1", None)

        await log.append(receipt(sku), "c-1", None)
        assert log._producer is not broken


async def _accepts(log: RequestLog, request: ReceiveStock) -> bool:
    try:
        await log.append(request, "c-1", None)
    except (NotAccepted, OutcomeUnknown):
        return False
    return True


async def _place_of(producer: Any, topic: str, key: str) -> TopicPartition:
    return TopicPartition(topic, java_partition(key, len(await producer.partitions_for(topic))))


def java_partition(key: str, partitions: int) -> int:
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


async def test_the_lanes_are_asked_for_until_somebody_remembers_them(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.log.ASK_AGAIN_SECONDS", 0.05)
    asked: list[int] = []

    async def lanes() -> int | None:
        asked.append(1)
        if len(asked) == 1:
            raise Unavailable
        return None if len(asked) == 2 else 3

    async def open_codec() -> Codec:
        return codec(environment)

    log = RequestLog(environment["PAVANE_KAFKA"], open_codec, lanes, patience_seconds=10)
    log.start()
    try:
        await becomes(lambda: log._lane_count == 4)
        await becomes(lambda: log._lane_count == 3)
        assert len(asked) == 3
    finally:
        await log.close()
