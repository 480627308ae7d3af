"""`settle`: topics have another number of partitions than there are lanes, and all is made to fit the lanes again.

A partition that a topic lacks is made, empty. What was written to a partition beyond the lanes, which nobody hears, is
kept in a file; the requests among it are said again in their keys' lanes, in the order of their times; then it is
deleted there. So a spare partition that is empty is one that nobody has to decide about. A request that was heard
before is known by its id. One that others have overtaken meanwhile is not: so each is shown with its time first, and
`--keep-only` says none. Whoever is interrupted begins again.
"""

import asyncio
import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, LiteralString, NamedTuple, cast

import msgspec
from confluent_kafka import KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from rich.text import Text

from pavane.audit.live import topics_of
from pavane.audit.log import HEADERS_UNREADABLE, headers_of
from pavane.dead_letters.events import Events
from pavane.lanes.reading import LogView
from pavane.lines import a_console
from pavane.operators import operations
from pavane.operators.agreeing import agreed
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Reach
from pavane.operators.words import count, cut, plain
from streams.kit import envelope
from streams.kit.events import from_milliseconds
from streams.kit.kafka import partition_of
from streams.kit.lane import REQUESTS
from streams.kit.log import Extent, Record

DONE, NOT_AGREED = 0, 1
MOST_SHOWN = 20
RECORDS_AT_ONCE = 2_000
SETTLE = "settle"
DO_SECONDS = 30.0

MEMORY: LiteralString = """
SELECT min(partition_count), max(partition_count), coalesce(max(partition), -1),
    coalesce(max(partition) FILTER (WHERE clock <> '{}'), -1)
FROM lanes
"""


class Memory(NamedTuple):
    """What one service's database remembers: the least and the greatest number of lanes, the last lane that it has a
    row of, and the last that it heard or said something in."""

    least: int | None
    most: int | None
    last: int
    heard: int

    def is_right(self, lanes: int) -> bool:
        return self.least == self.most == lanes and self.last < lanes


class Spare(NamedTuple):
    """A partition beyond the lanes that is not empty, with its first records."""

    topic: str
    partition: int
    extent: Extent
    shown: list[Record]

    @property
    def records(self) -> int:
        return self.extent.end - self.extent.start


class Plan(NamedTuple):
    """What would be done. `lacking`: topics with too few partitions, and how many they have. `wrong`: services whose
    database remembers no number of lanes, or another one."""

    lanes: int
    lacking: Mapping[str, int]
    spare: Sequence[Spare]
    wrong: Sequence[str]

    @property
    def is_empty(self) -> bool:
        return not (self.lacking or self.spare or self.wrong)

    @property
    def topics(self) -> list[str]:
        return sorted({*self.lacking, *(each.topic for each in self.spare)})


class Settled(NamedTuple):
    """How much was done, and what stood in the way of the rest, if anything did."""

    said: int
    kept: int
    trouble: str = ""


class Settle:
    """One wish to settle. `lanes`: how many there are, for when no database remembers. `keep`: the file for what is
    found. `says`: say requests again. Raises `NotAsked`; before somebody has agreed, nothing was changed then."""

    def __init__(self, reach: Reach, lanes: int | None, keep: Path | None, *, says: bool = True) -> None:
        self._reach = reach
        self._lanes = lanes
        self._keep = keep or Path(f"astray-{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl")
        self._says = says
        self._topics = topics_of([reach.find(name) for name in reach.databases])
        self._events = Events(reach.language, reach.registry)

    async def carry_out(self, who: str, why: str, *, asks: bool, dry_run: bool) -> int:
        """Show what would be done; then do it, if somebody agrees."""
        lanes, wrong = _judged(await self._remembered(), self._lanes)
        plan = await asyncio.to_thread(self._look, lanes, wrong)
        console = a_console()
        for line in await self._told(plan):
            console.print(Text(line), soft_wrap=True)
        if plan.is_empty or dry_run:
            console.print("Nothing was changed.")
            return DONE
        if asks and not await agreed("Do it?"):
            console.print("Nothing was changed.")
            return NOT_AGREED
        done = await self._do(plan, operations.somebody(who), why)
        if done.kept:
            console.print(Text(f"{count(done.kept, 'record')} kept in {self._keep}, {done.said:,} of them said again."))
        console.print(
            "Done. Services look again within seconds; one that could not start can be started now. "
            "Run 'pavane lanes list', and 'pavane audit' at the end.",
            soft_wrap=True,
        )
        return DONE

    # -- looking -----------------------------------------------------------------------------------------------------

    async def _remembered(self) -> dict[str, Memory]:
        found: dict[str, Memory] = {}
        for service in self._reach.services():
            async with self._reach.database(service, reading=True) as connection:
                row = await (await connection.execute(MEMORY)).fetchone()
                found[service] = Memory(*(row or (None, None, -1, -1)))
        return found

    def _look(self, lanes: int, wrong: Sequence[str]) -> Plan:
        with LogView.at(self._reach.kafka) as log:
            counts = log.counts(self._topics)
            if missing := [topic for topic in self._topics if topic not in counts]:
                raise NotAsked(f"Kafka has no topic {', '.join(missing)}: run 'pavane topics apply'")
            beyond = log.beyond(dict.fromkeys(self._topics, lanes))
            spare = [
                Spare(*where, extent, log.records(*where, extent.start, extent.end, MOST_SHOWN, _whole))
                for where, extent in beyond.items()
            ]
        for each in spare:
            if own := next((record for record in each.shown if _is_own(record)), None):
                raise NotAsked(
                    f"{each.topic}/{each.partition} offset {own.offset} is a fact of {each.topic} itself, so there are "
                    f"more than {lanes} lanes, or the databases are not this log's: nothing may be deleted there"
                )
        return Plan(lanes, {topic: found for topic, found in counts.items() if found < lanes}, spare, wrong)

    # -- telling -----------------------------------------------------------------------------------------------------

    async def _told(self, plan: Plan) -> list[str]:
        lines = [f"There are {count(plan.lanes, 'lane')}, 0 to {plan.lanes - 1}."]
        if plan.is_empty:
            return [*lines, "All topics have a partition for each of them, and nothing was written beyond them."]
        if plan.wrong:
            lines.append(f"Their number would be written down for {', '.join(plan.wrong)}.")
        for topic, found in plan.lacking.items():
            lines.append(
                f"{topic} has {count(found, 'partition')}: {found} to {plan.lanes - 1} would be made again, empty. "
                "What was in them is gone: each lane then says what it misses, and which command decides about that."
            )
        for each in plan.spare:
            lines.append(f"{each.topic}/{each.partition} has {count(each.records, 'record')} that nobody hears:")
            lines += [f"  {await self._line(record, plan.lanes)}" for record in each.shown]
            if each.records > len(each.shown):
                lines.append(f"  and {each.records - len(each.shown):,} more")
        if plan.spare:
            lines.append(f"They would be kept in {self._keep}, and deleted there.")
        if plan.spare and self._says:
            lines.append("A price or a cancellation that was overtaken since would be said after what overtook it:")
            lines.append("look at the times; with --keep-only none is said.")
        return lines

    async def _line(self, record: Record, lanes: int) -> str:
        name = await self._events.name(record)
        about = cut((record.key or b"").decode(errors="replace"), 60) or "(no key)"
        lane = _lane_of(record, lanes) if self._says else None
        would = f"would be said again in lane {lane}" if lane is not None else "would only be kept"
        at = f"{from_milliseconds(record.timestamp):%Y-%m-%d %H:%M:%S}"
        return f"offset {record.offset}, {at}: {plain(name)} about {about}, {would}"

    # -- doing -------------------------------------------------------------------------------------------------------

    async def _do(self, plan: Plan, who: str, why: str) -> Settled:
        """What was done, noted with every service that is concerned."""
        concerned = sorted({*plan.wrong, *(topic.split(".")[0] for topic in plan.topics)})
        subject = f"{plan.lanes} lanes; {', '.join(plan.topics) or 'no topic'}"
        async with AsyncExitStack() as stack:
            file = stack.enter_context(self._file()) if plan.spare else None
            noted = []
            for service in concerned:
                connection = await stack.enter_async_context(self._reach.database(service))
                noted.append((connection, await operations.begin(connection, who, SETTLE, plan.topics, subject, why)))
                if service in plan.wrong:
                    async with connection.transaction():
                        await connection.execute("DELETE FROM lanes WHERE partition >= %s", (plan.lanes,))
                        await connection.execute("UPDATE lanes SET partition_count = %s", (plan.lanes,))
                        await connection.execute(
                            "INSERT INTO lanes (partition, partition_count, epoch) "
                            "SELECT p, %s, 0 FROM generate_series(0, %s) p ON CONFLICT DO NOTHING",
                            (plan.lanes, plan.lanes - 1),
                        )
            done = await asyncio.to_thread(self._settle, plan, file)
            outcome = f"{done.kept} records kept, {done.said} of them said again"
            for connection, number in noted:
                await operations.end(connection, number, f"{'cut off' if done.trouble else 'settled'}: {outcome}")
        if done.trouble:
            raise NotAsked(f"{done.trouble}. So far {outcome}; run the command again for the rest")
        return done

    def _file(self) -> BinaryIO:
        try:
            return open(self._keep, "ab", opener=_private)
        except OSError as error:
            raise NotAsked(f"--keep {self._keep}: {error.strerror}") from error

    def _settle(self, plan: Plan, file: BinaryIO | None) -> Settled:
        said = kept = 0
        client = AdminClient({"bootstrap.servers": self._reach.kafka, "log_level": 0})
        try:
            if plan.lacking:
                wanted = [NewPartitions(topic, plan.lanes) for topic in plan.lacking]
                for made in client.create_partitions(wanted, operation_timeout=DO_SECONDS).values():
                    made.result(DO_SECONDS)
            with LogView.at(self._reach.kafka) as log:
                found = [record for spare in plan.spare for record in _records(log, spare)]
            if file is not None:
                _write(file, found)
                kept = len(found)
            if self._says:
                asked = [record for record in found if _lane_of(record, plan.lanes) is not None]
                said = _say_again(self._reach.kafka, sorted(asked, key=lambda each: each.timestamp), plan.lanes)
            # All of it, also what is no record: the marks that a transaction leaves.
            upto = [TopicPartition(each.topic, each.partition, each.extent.end) for each in plan.spare]
            for deleted in client.delete_records(upto).values() if upto else ():
                deleted.result(DO_SECONDS)
        except (KafkaException, TimeoutError, OSError) as error:
            why = str(error) or f"no answer within {DO_SECONDS:.0f} s"
            return Settled(said, kept, f"Kafka at {self._reach.kafka} or {self._keep} did not take it: {why}")
        except NotAsked as error:
            return Settled(said, kept, str(error))
        return Settled(said, kept)


def _judged(remembered: Mapping[str, Memory], given: int | None) -> tuple[int, list[str]]:
    """How many lanes there are, and which databases do not say so. Raises `NotAsked`."""
    known = {memory.least for memory in remembered.values() if memory.least is not None}
    if not known and given is None:
        raise NotAsked("no database remembers how many lanes there are: say it with --lanes")
    # A number is only ever too great: by what was made of a topic that had grown.
    lanes = min(known) if known else cast("int", given)
    if given not in (None, lanes):
        raise NotAsked(f"--lanes {given}: there are {lanes}, and a key never changes its lane")
    for service, memory in remembered.items():
        if memory.heard >= lanes:
            raise NotAsked(
                f"{service} has heard lane {memory.heard}, where others remember {lanes} lanes, 0 to {lanes - 1}: the "
                f"databases do not belong together. Check PAVANE_DATABASE_*; 'pavane rebuild {service} --swap "
                f"--reason ...' makes its tables again from the log"
            )
    return lanes, [service for service, memory in remembered.items() if not memory.is_right(lanes)]


def _records(log: LogView, spare: Spare) -> Iterator[Record]:
    first = spare.extent.start
    while records := log.records(spare.topic, spare.partition, first, spare.extent.end, RECORDS_AT_ONCE, _whole):
        yield from records
        first = records[-1].offset + 1


def _whole(topic: str, partition: int, offset: int, message: Message) -> Record:
    """A record with its headers, of a request as well."""
    key, value, headers = message.key(), message.value(), headers_of(message)
    return Record(topic, partition, offset, message.timestamp()[1], key, value, headers)


def _is_own(record: Record) -> bool:
    """Whether the topic's own service said it: then its partition is a lane."""
    if record.topic.endswith(REQUESTS):
        return False
    return envelope.of_own(record.topic, record.partition, record.headers) is not None


def _lane_of(record: Record, lanes: int) -> int | None:
    """Where a request is heard; None of anything else."""
    return partition_of(record.key, lanes) if record.topic.endswith(REQUESTS) and record.key else None


def _write(file: BinaryIO, records: Sequence[Record]) -> None:
    """A line each, on the disk before anything is deleted."""
    for record in records:
        document = {
            "topic": record.topic, "partition": record.partition, "offset": record.offset,
            "timestamp": record.timestamp, "key": _text(record.key), "value": _text(record.value),
            "headers": [(name, _text(value)) for name, value in record.headers],
        }  # fmt: skip
        file.write(msgspec.json.encode(document) + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _private(path: str, flags: int) -> int:
    """For a file that may hold personal texts: nobody else may read it."""
    return os.open(path, flags, 0o600)


def _text(some: bytes | None) -> str | None:
    """As base64."""
    return None if some is None else base64.b64encode(some).decode()


def _say_again(bootstrap: str, requests: Sequence[Record], lanes: int) -> int:
    """Say them in their lanes, all acknowledged; how many there were. Raises `KafkaException`."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
    failed: list[object] = []

    def note(error: object, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for number, request in enumerate(requests, 1):
        headers: Any = [each for each in request.headers if each[0] != HEADERS_UNREADABLE]
        lane = cast("int", _lane_of(request, lanes))
        producer.produce(request.topic, request.value, request.key, lane, headers=headers, on_delivery=note)
        if number % RECORDS_AT_ONCE == 0:
            producer.flush(DO_SECONDS)
    unsaid = producer.flush(DO_SECONDS)
    if failed or unsaid:
        raise KafkaException(failed[0] if failed else f"{unsaid} records were not acknowledged in {DO_SECONDS:.0f} s")
    return len(requests)
