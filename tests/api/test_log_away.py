"""The gateway's way onto a log that is away: what it holds, and how long anybody waits."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from api.errors import NotAccepted
from api.events import ReceiveStock
from api.log import LEFT_ALONE, RequestLog
from streams.kit.codec import Codec
from streams.kit.policies import Policy
from tests.api.conftest import NOWHERE
from tests.waiting import eventually


async def _no_codec() -> Codec:
    raise ConnectionError("no registry is here")


async def test_a_producer_that_is_given_up_sends_nothing_any_more():
    before = asyncio.all_tasks()
    log = RequestLog(NOWHERE, _no_codec)
    producer = AIOKafkaProducer(bootstrap_servers=NOWHERE, acks="all", enable_idempotence=True)
    # As it is once it had connected, and the broker went away.
    sending = producer._sender._sender_task = asyncio.create_task(producer._sender._sender_routine())
    held = await producer._message_accumulator.add_message(TopicPartition("orders.requests", 0), b"key", b"value", 5)
    log._producer = producer

    async with asyncio.timeout(10):
        await log.close()
        with pytest.raises(KafkaError):
            await held

    assert sending.done()
    # The client's own last tasks end with the next turns of the loop.
    await eventually(lambda: asyncio.all_tasks() - {asyncio.current_task()} <= before)


RECEIPT = ReceiveStock(tenant="shop", sku="lamp", quantity=1, request_id="r1")


async def away(patience_seconds: float = 0.05) -> RequestLog:
    """Nobody has connected, and as many as it takes have waited in vain."""
    log: Any = RequestLog(NOWHERE, _no_codec, patience_seconds=patience_seconds)
    waited = [log.append(RECEIPT, "c-1", None) for _ in range(LEFT_ALONE.failures_to_open)]
    for refused in await asyncio.gather(*waited, return_exceptions=True):
        assert isinstance(refused, NotAccepted)
    log._patience_seconds = 60.0
    return log  # type: ignore[no-any-return]


async def test_after_many_have_waited_in_vain_the_next_are_refused_at_once():
    log = await away()

    async with asyncio.timeout(10):
        with pytest.raises(NotAccepted):
            await log.append(RECEIPT, "c-1", None)


async def test_one_tries_whether_the_log_is_back_and_then_all_are_let_in(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("api.log.LEFT_ALONE", Policy(failures_to_open=LEFT_ALONE.failures_to_open, open_seconds=0.0))
    log: Any = await away()
    tries = asyncio.create_task(log.append(RECEIPT, "c-1", None))
    await asyncio.sleep(0)
    with pytest.raises(NotAccepted):
        await log.append(RECEIPT, "c-1", None)

    acknowledged = asyncio.get_running_loop().create_future()
    acknowledged.set_result(None)

    async def send(*_: Any, **__: Any) -> asyncio.Future[None]:
        return acknowledged

    log._producer, log._codec = SimpleNamespace(send=send), SimpleNamespace(encode=lambda request: b"")
    log._lane_count = 4
    log._connected.set()

    async with asyncio.timeout(10):
        await tries
        await asyncio.gather(*(log.append(RECEIPT, "c-1", None) for _ in range(5)))
