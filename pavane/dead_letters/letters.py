"""The dead letter of a record: what the service said about it in its dead-letter topic when the decision failed.

It is found by its time: the letter bears the time of the batch that parked the record, so reading begins a minute
before that. Only when it is not there (a clock that was set) is the partition read from its start.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pavane.dead_letters.items import Item
from streams.kit.events import milliseconds
from streams.kit.lane import DEAD_LETTERS

EARLIER = timedelta(minutes=1)
PATIENCE_SECONDS = 15.0


class LetterAway(Exception):
    """The log does not answer, or not in time."""


async def letter_of(bootstrap: str, item: Item) -> Mapping[str, str] | None:
    """What the letter's `dead_letter_...` headers say, without that prefix; None when there is no letter.

    Raises `LetterAway`.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _letter_of(bootstrap, item)
    except TimeoutError:
        raise LetterAway(f"Kafka at {bootstrap} does not answer in time") from None
    except (KafkaError, OSError) as error:
        raise LetterAway(f"Kafka at {bootstrap} does not answer: {error}") from error


async def _letter_of(bootstrap: str, item: Item) -> Mapping[str, str] | None:
    at = TopicPartition(item.id.service + DEAD_LETTERS, item.id.partition)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        consumer.assign([at])
        start, end = (await consumer.beginning_offsets([at]))[at], (await consumer.end_offsets([at]))[at]
        found = (await consumer.offsets_for_times({at: milliseconds(item.parked_at - EARLIER)}))[at]
        near = found.offset if found is not None else end
        return await _find(consumer, at, near, end, item.origin) or await _find(consumer, at, start, near, item.origin)


async def _find(
    consumer: AIOKafkaConsumer, at: TopicPartition, start: int, end: int, origin: str
) -> Mapping[str, str] | None:
    """The first letter about that origin between two offsets."""
    consumer.seek(at, start)
    while await consumer.position(at) < end:
        for record in (await consumer.getmany(at, timeout_ms=1_000)).get(at, ()):
            said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
            if record.offset < end and said.get("dead_letter_origin") == origin:
                prefix = "dead_letter_"
                return {name.removeprefix(prefix): text for name, text in said.items() if name.startswith(prefix)}
    return None
