"""Has everything been heard? Asked of the log's ends and of every service's own positions; nothing is written.

A service's positions move in the transaction that commits what it heard, so "heard" means "committed". What was
committed but is not in the log yet is seen by the service's own entry in its clock: the sequence of its last fact.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import psycopg
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # hidden from type checkers

from infra.addresses import Addresses
from streams.kit.log import Extent
from streams.kit.run import find, services

ASK_SECONDS = 10.0
BETWEEN_LOOKS_SECONDS = 0.1
#: A fact that was said twice makes its topic longer than its sequence: one look alone could come a moment too early.
LOOKS = 2

LANES = """
    SELECT partition, positions, clock,
           (SELECT count(*) FROM outbox o WHERE o.partition = l.partition AND o.number > l.acknowledged)
      FROM lanes l
"""
Ends = Mapping[tuple[str, int], Extent]


class Heard(NamedTuple):
    """One lane of one service, as its database has it: next offset by topic, last sequence by speaker. `to_say`: outbox
    rows that it does not know to be in the log, though they may be."""

    service: str
    partition: int
    positions: Mapping[str, int]
    clock: Mapping[str, int]
    to_say: int = 0


async def wait_until_heard(addresses: Addresses, topics: Sequence[str], timeout_seconds: float) -> None:
    """Return once every service has heard what is in `topics` now. `TimeoutError` says who has not."""
    ends = await asyncio.to_thread(_ends, addresses.kafka_bootstrap, topics)

    async def look() -> list[str]:
        return list(_unheard(await lanes(addresses), ends))

    await _until_nothing(look, 1, timeout_seconds)


async def wait_until_settled(addresses: Addresses, timeout_seconds: float) -> None:
    """Return once every service has heard everything there is and has nothing left to say. `TimeoutError` says who."""
    topics = {topic for name in services() for topic in find(name).topics}
    # What a service says may be heard by nobody yet; it has to be said all the same.
    topics |= {name for name in services() if find(name).says}

    async def look() -> list[str]:
        # The positions first: what is said after that is seen at the ends.
        found = await lanes(addresses)
        ends = await asyncio.to_thread(_ends, addresses.kafka_bootstrap, sorted(topics))
        return [*_unheard(found, ends), *_unsaid(found, ends)]

    await _until_nothing(look, LOOKS, timeout_seconds)


async def lanes(addresses: Addresses) -> list[Heard]:
    """Every lane of every service."""

    async def of(name: str) -> list[Heard]:
        async with await psycopg.AsyncConnection.connect(addresses.postgres[name]) as connection:
            cursor = await connection.execute(LANES)
            return [Heard(name, *row) for row in await cursor.fetchall()]

    return [each for found in await asyncio.gather(*map(of, services())) for each in found]


def _unheard(found: Iterable[Heard], ends: Ends) -> Iterable[str]:
    positions = {(each.service, each.partition): each.positions for each in found}
    for name in services():
        heard = find(name).topics
        for (topic, partition), extent in ends.items():
            # Of what was deleted there is nothing to hear.
            missing = extent.end - max(extent.start, positions.get((name, partition), {}).get(topic, 0))
            if topic in heard and missing > 0:
                yield f"{name} has {missing:,} records of {topic}/{partition} to hear"


def _unsaid(found: Iterable[Heard], ends: Ends) -> Iterable[str]:
    for each in found:
        extent = ends.get((each.service, each.partition), Extent(0, 0))
        unsaid = each.clock.get(each.service, 0) - extent.end
        # A topic is shorter than that for ever once facts were given up ('pavane log restore').
        if unsaid > 0 and each.to_say:
            yield f"{each.service} has {unsaid:,} facts of lane {each.partition} to say"


async def _until_nothing(look: Callable[[], Awaitable[list[str]]], looks: int, timeout_seconds: float) -> None:
    """Look until nothing was found so many times in a row."""
    deadline = time.monotonic() + timeout_seconds
    still = 0
    while True:
        try:
            waiting = await look()
        except KafkaException as error:
            # A broker that was just restarted does not know yet: look again.
            waiting = [f"Kafka does not say where its topics end: {error.args[0].str()}"]
        still = 0 if waiting else still + 1
        if still == looks:
            return
        if waiting and time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout_seconds:.0f} seconds: {'; '.join(waiting[:5])}")
        await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


def _ends(bootstrap: str, topics: Sequence[str]) -> dict[tuple[str, int], Extent]:
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    known = client.list_topics(timeout=ASK_SECONDS).topics
    wanted = [TopicPartition(topic, p) for topic in topics if topic in known for p in known[topic].partitions]
    # The starts first: both only grow, so none is beyond its end.
    starts = _offsets(client, wanted, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = _offsets(client, wanted, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    return {where: Extent(starts[where], end) for where, end in ends.items()}


def _offsets(client: AdminClient, wanted: Sequence[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    found = client.list_offsets(dict.fromkeys(wanted, spec)) if wanted else {}
    return {(at.topic, at.partition): int(future.result(ASK_SECONDS).offset) for at, future in found.items()}
