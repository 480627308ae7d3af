"""Instances of the counter service in this process, on real Kafka and PostgreSQL."""

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from streams.kit.kafka import KafkaLog, partition_of
from streams.kit.log import Record
from streams.kit.postgres import PostgresStore
from streams.kit.run import readiness
from streams.kit.settings import WorkerSettings
from streams.kit.worker import Worker
from tests.kit import reading
from tests.kit.counter import Counter, decode
from tests.kit.counter_events import Added
from tests.waiting import eventually

SESSION_MS = 6_000
PARTITIONS = 2
KEYS = [f"k{number}" for number in range(8)]
NO_CAUSE = (("correlation", b"c"),)


@dataclass
class Instance:
    """One instance: its worker runs as a task."""

    worker: Worker
    log: KafkaLog
    running: asyncio.Task[None]

    @property
    def lanes(self) -> set[int]:
        return set(self.worker.lanes)

    def readiness(self) -> Mapping[str, Any]:
        return readiness(self.worker, self.log, None)

    async def stop(self) -> None:
        self.worker.stop()
        await self.running
        await self.log.close()


@dataclass
class Counting:
    """The counter service on its topics and its database, and everything that its tests ask."""

    counter: Counter
    bootstrap: str
    database: str
    instances: list[Instance] = field(default_factory=list)
    sent: dict[tuple[str, int], int] = field(default_factory=dict)

    # -- instances -------------------------------------------------------------------------------------------------

    async def start(self, log: Callable[[KafkaLog], KafkaLog] = lambda log: log, **settings: Any) -> Instance:
        """One more instance. `log` may change its client."""
        counter, count = self.counter, PARTITIONS
        chosen = WorkerSettings(
            kafka=self.bootstrap, registry="http://unused", database=self.database,
            **{"due_poll_seconds": 0.05, "session_timeout_ms": SESSION_MS, **settings},
        )  # fmt: skip
        client = log(KafkaLog(self.bootstrap, counter.name, counter.service.topics, SESSION_MS))
        store = PostgresStore(self.database, 0.8 * SESSION_MS / 1000)
        world = None if counter.service.world is None else counter.bells
        worker = Worker(
            counter.service, client, store, counter.codec, world, chosen, lambda key: partition_of(key, count)
        )
        client.let_go = worker.let_go
        await client.open(await store.lane_count())
        instance = Instance(worker, client, asyncio.create_task(worker.run()))
        self.instances.append(instance)
        return instance

    async def stop(self) -> None:
        await asyncio.gather(*(each.stop() for each in self.instances))

    # -- what others say -------------------------------------------------------------------------------------------

    def partition(self, key: str) -> int:
        return partition_of(key.encode(), PARTITIONS)

    async def ask(self, *adds: tuple[Any, ...]) -> None:
        """Send requests: (counter, amount, how, into), as many of these as matter."""
        topic, add = self.counter.requests, self.counter.add
        records = [(topic, self.partition(each[0]), each[0].encode(), add(*each), NO_CAUSE) for each in adds]
        await reading.send(self.bootstrap, *records)

    async def send(self, *records: Record) -> None:
        """Send records as they are."""
        await reading.send(self.bootstrap, *((r.topic, r.partition, r.key, r.value, r.headers) for r in records))

    # -- what became of it -----------------------------------------------------------------------------------------

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.database, autocommit=True) as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def totals(self) -> dict[str, int]:
        return dict(await self.rows("SELECT counter, total FROM counts"))

    async def until_totals(self, expected: Mapping[str, int], within_seconds: float = 30.0) -> None:
        """Wait until every counter has its total, and then for the log to have every fact."""

        async def are_right() -> bool:
            return {k: v for k, v in (await self.totals()).items() if v} == expected

        await eventually(are_right, within_seconds, what=f"totals {expected}")
        await eventually(self._is_said, within_seconds, what="everything is in the log")

    async def _is_said(self) -> bool:
        name = self.counter.name
        committed = await self.rows("SELECT partition, coalesce((clock ->> %s)::bigint, 0) FROM lanes", name)
        facts = await self.facts()
        return all(len(facts[partition]) == sequence for partition, sequence in committed)

    async def facts(self) -> list[list[Any]]:
        """The service's own facts, lane by lane, each once, after checking that none is missing or out of order."""
        return [reading.first_appearances(lane) for lane in await self._records(self.counter.name)]

    async def said(self) -> dict[str, int]:
        """What the facts in the log add up to, counter by counter."""
        totals: Tally[str] = Tally()
        for record in (record for lane in await self.facts() for record in lane):
            if dict(record.headers)["ce_type"] == b"Added":
                fact = decode(self.counter, Added, record.value)
                totals[fact.counter] += fact.amount
        return {counter: amount for counter, amount in totals.items() if amount}

    async def letters(self) -> list[Mapping[str, bytes]]:
        """The headers of all dead letters."""
        lanes = await self._records(f"{self.counter.name}.dead-letters")
        return [dict(letter.headers) for lane in lanes for letter in lane]

    async def epochs(self) -> dict[int, int]:
        return dict(await self.rows("SELECT partition, epoch FROM lanes"))

    async def _records(self, topic: str) -> Sequence[Sequence[Any]]:
        return await reading.records(self.bootstrap, topic, PARTITIONS)


@asynccontextmanager
async def counting(counter: Counter, bootstrap: str, database: str) -> AsyncIterator[Counting]:
    """The service under test; its instances are stopped at the end."""
    service = Counting(counter, bootstrap, database)
    try:
        yield service
    finally:
        await service.stop()
