"""The gateway's way onto a log that is away: what it holds, and how long anybody waits."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from api.log import RequestLog
from streams.kit.codec import Codec
from tests.api.conftest import NOWHERE


async def _no_codec() -> Codec:
    raise ConnectionError("no registry is here")


async def test_a_producer_that_is_given_up_sends_nothing_any_more():
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
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
