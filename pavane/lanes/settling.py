"""`settle`: topics have another number of partitions than there are lanes, and all is made to fit the lanes again.

A partition that a topic lacks is made, empty. What was written to a partition beyond the lanes, which nobody hears, is
kept in a file; a request among it is said again in its key's lane, byte by byte (its id keeps it from happening twice);
then it is deleted there. So a spare partition that is empty is one that nobody has to decide about. Whoever is
interrupted begins again: what was said and not deleted yet is said twice.
"""

import asyncio
import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
from confluent_kafka import KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from rich.text import Text

from pavane.audit.live import topics_of
from pavane.dead_letters import operations
from pavane.dead_letters.agreeing import agreed
from pavane.dead_letters.desk import Desk
from pavane.dead_letters.errors import NotAsked
from pavane.dead_letters.events import Events
from pavane.dead_letters.words import count, cut, plain
from pavane.lanes.reading import ASK_SECONDS, LogView
from pavane.lines import a_console
from streams.kit.kafka import partition_of
from streams.kit.lane import REQUESTS
from streams.kit.log import Extent, Record

DONE, NOT_AGREED = 0, 1
MOST_SHOWN = 20
RECORDS_AT_ONCE = 2_000
SETTLE = "settle"
SAY_SECONDS = 30.0


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
    """What would be done. `lacking`: topics with too few partitions, and how many they have. `forgetful`: services
    whose database does not remember how many lanes there are."""

    lanes: int
    lacking: Mapping[str, int]
    spare: Sequence[Spare]
    forgetful: Sequence[str]

    @property
    def is_empty(self) -> bool:
        return not (self.lacking or self.spare or self.forgetful)


class Settle:
    """One wish to settle. `lanes`: how many there are, for when no database remembers. Raises `NotAsked` whenever it
    makes no sense; then nothing was changed."""

    def __init__(self, desk: Desk, lanes: int | None, keep: Path | None) -> None:
        self._desk = desk
        self._lanes = lanes
        self._keep = keep or Path(f"astray-{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl")
        self._topics = topics_of([desk.find(name) for name in desk.databases])
        self._events = Events(desk.language, desk.registry)

    async def carry_out(self, who: str, why: str, *, asks: bool, dry_run: bool) -> int:
        """Show what would be done; then do it, if somebody agrees."""
        remembered = await self._remembered()
        plan = await asyncio.to_thread(self._plan, remembered)
        console = a_console()
        for line in await self._told(plan):
            console.print(Text(line), soft_wrap=True)
        if plan.is_empty or dry_run:
            console.print("Nothing was changed.")
            return DONE
        if asks and not await agreed("Do it?"):
            console.print("Nothing was changed.")
            return NOT_AGREED
        said, kept = await self._do(plan, operations.somebody(who), why)
        if kept:
            console.print(Text(f"{count(kept, 'record')} kept in {self._keep}, {said:,} of them said again."))
        console.print(
            "Done. Services look again within seconds; one that could not start can be started now. "
            "Run 'pavane lanes list', and 'pavane audit' at the end."
        )
        return DONE

    # -- looking -----------------------------------------------------------------------------------------------------

    async def _remembered(self) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for service in self._desk.services():
            async with self._desk.database(service, reading=True) as connection:
                cursor = await connection.execute("SELECT max(partition_count) FROM lanes")
                row = await cursor.fetchone()
                found[service] = row[0] if row else None
        return found

    def _count(self, remembered: Mapping[str, int | None]) -> int:
        counts = {known for known in remembered.values() if known is not None}
        if len(counts) > 1:
            listed = ", ".join(f"{service} {known}" for service, known in remembered.items() if known)
            raise NotAsked(f"the databases do not belong together: they remember other numbers of lanes: {listed}")
        if not counts and self._lanes is None:
            raise NotAsked("no database remembers how many lanes there are: say it with --lanes")
        if counts and self._lanes not in (None, *counts):
            raise NotAsked(f"--lanes {self._lanes}: there are {counts.pop()}, and a key never changes its lane")
        return counts.pop() if counts else cast("int", self._lanes)

    def _plan(self, remembered: Mapping[str, int | None]) -> Plan:
        lanes = self._count(remembered)
        with LogView.at(self._desk.kafka) as log:
            counts = log.counts(self._topics)
            if missing := [topic for topic in self._topics if topic not in counts]:
                raise NotAsked(f"Kafka has no topic {', '.join(missing)}: run 'pavane topics apply'")
            spare = list(_spare(log, counts, lanes))
        return Plan(
            lanes,
            {topic: found for topic, found in counts.items() if found < lanes},
            spare,
            [service for service, known in remembered.items() if known is None],
        )

    # -- telling -----------------------------------------------------------------------------------------------------

    async def _told(self, plan: Plan) -> list[str]:
        lines = [f"There are {count(plan.lanes, 'lane')}, 0 to {plan.lanes - 1}."]
        if plan.is_empty:
            return [*lines, "All topics have a partition for each of them, and nothing was written beyond them."]
        if plan.forgetful:
            lines.append(f"Their number would be written down for {', '.join(plan.forgetful)}.")
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
        return lines

    async def _line(self, record: Record, lanes: int) -> str:
        name = await self._events.name(record)
        about = cut((record.key or b"").decode(errors="replace"), 60) or "(no key)"
        lane = _lane_of(record, lanes)
        would = "is only kept: no request with a key" if lane is None else f"would be said again in lane {lane}"
        return f"offset {record.offset}: {plain(name)} about {about}, {would}"

    # -- doing -------------------------------------------------------------------------------------------------------

    async def _do(self, plan: Plan, who: str, why: str) -> tuple[int, int]:
        """How many records were said again, and how many are kept."""
        for service in plan.forgetful:
            async with self._desk.database(service) as connection:
                await connection.execute(
                    "INSERT INTO lanes (partition, partition_count, epoch) "
                    "SELECT p, %s, 0 FROM generate_series(0, %s) p ON CONFLICT DO NOTHING",
                    (plan.lanes, plan.lanes - 1),
                )
        topics = sorted({*plan.lacking, *(each.topic for each in plan.spare)})
        if not topics:
            return 0, 0
        subject = f"{plan.lanes} lanes; {', '.join(topics)}"
        async with self._desk.database(_owner(topics[0])) as connection:
            number = await operations.begin(connection, who, SETTLE, topics, subject, why)
            said, kept = await asyncio.to_thread(self._settle, plan)
            outcome = f"settled: {len(plan.lacking)} topics filled up, {kept} records kept, {said} of them said again"
            await operations.end(connection, number, outcome)
        return said, kept

    def _settle(self, plan: Plan) -> tuple[int, int]:
        client = AdminClient({"bootstrap.servers": self._desk.kafka, "log_level": 0})
        said = kept = 0
        try:
            if plan.lacking:
                wanted = [NewPartitions(topic, plan.lanes) for topic in plan.lacking]
                for done in client.create_partitions(wanted, operation_timeout=ASK_SECONDS).values():
                    done.result(ASK_SECONDS)
            with LogView.at(self._desk.kafka) as log:
                for spare in plan.spare:
                    for records in _in_turn(log, spare):
                        _keep(self._keep, records)
                        said += _say_again(self._desk.kafka, records, plan.lanes)
                        kept += len(records)
                        upto = TopicPartition(spare.topic, spare.partition, records[-1].offset + 1)
                        for deleted in client.delete_records([upto]).values():
                            deleted.result(ASK_SECONDS)
        except KafkaException as error:
            raise NotAsked(
                f"Kafka at {self._desk.kafka} did not do it: {error}. {kept:,} records are kept in {self._keep} and "
                f"{said:,} of them said again; run the command again for the rest"
            ) from error
        return said, kept


def _spare(log: LogView, counts: Mapping[str, int], lanes: int) -> Iterator[Spare]:
    beyond = [(topic, partition) for topic, found in counts.items() for partition in range(lanes, found)]
    for where, extent in log.extents(beyond).items():
        if extent.end > extent.start:
            yield Spare(*where, extent, log.records(*where, extent.start, extent.end, MOST_SHOWN, _whole))


def _in_turn(log: LogView, spare: Spare) -> Iterator[list[Record]]:
    first = spare.extent.start
    while records := log.records(spare.topic, spare.partition, first, spare.extent.end, RECORDS_AT_ONCE, _whole):
        yield records
        first = records[-1].offset + 1


def _whole(topic: str, partition: int, offset: int, message: Message) -> Record:
    """A record with its headers, whoever wrote it."""
    try:
        headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    except UnicodeDecodeError:
        headers = []  # the client cannot read names that are not UTF-8
    return Record(topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers)


def _lane_of(record: Record, lanes: int) -> int | None:
    """Where a request is heard; None of anything else."""
    return partition_of(record.key, lanes) if record.topic.endswith(REQUESTS) and record.key else None


def _owner(topic: str) -> str:
    return topic.split(".")[0]


def _keep(file: Path, records: Sequence[Record]) -> None:
    with file.open("ab") as out:
        for record in records:
            document = {
                "topic": record.topic, "partition": record.partition, "offset": record.offset,
                "timestamp": record.timestamp, "key": _text(record.key), "value": _text(record.value),
                "headers": [(name, _text(value)) for name, value in record.headers],
            }  # fmt: skip
            out.write(msgspec.json.encode(document) + b"\n")


def _text(some: bytes | None) -> str | None:
    """As base64."""
    return None if some is None else base64.b64encode(some).decode()


def _say_again(bootstrap: str, records: Sequence[Record], lanes: int) -> int:
    """Say the requests among them in their lanes, all acknowledged; how many there were. Raises `KafkaException`."""
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})
    failed: list[object] = []
    said = 0
    for record in records:
        lane = _lane_of(record, lanes)
        if lane is not None:
            producer.produce(
                record.topic, record.value, record.key, lane, headers=list(record.headers),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )  # fmt: skip
            said += 1
    unsaid = producer.flush(SAY_SECONDS)
    if failed or unsaid:
        raise KafkaException(failed[0] if failed else f"{unsaid} records were not acknowledged in {SAY_SECONDS:.0f} s")
    return said
