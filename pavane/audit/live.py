"""The audit on live parts: where the environment says, in the order that the package's docstring gives."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from pavane.audit import checkpoint, databases
from pavane.audit.checkpoint import Mark
from pavane.audit.decoding import Decoder
from pavane.audit.errors import EvidenceMissing
from pavane.audit.examination import Evidence, examine
from pavane.audit.incremental import go_on
from pavane.audit.ledger import Where, digest_of
from pavane.audit.log import LogReader
from pavane.audit.report import Report
from pavane.audit.snapshot import Snapshot
from streams.kit import run
from streams.kit.kafka import partition_of
from streams.kit.lane import DEAD_LETTERS, REQUESTS
from streams.kit.language import Language
from streams.kit.log import Extent, Record
from streams.kit.service import Service

REGISTRY_TIMEOUT_SECONDS = 10
REGISTRY_RETRIES = 10
_NOT_FOUND = 404


async def audit(environment: Mapping[str, str], kept: Path | None = None) -> Report:
    """Audit what the PAVANE_* variables in `environment` name: databases, log, registry. Nothing there is written.

    Takes some seconds for every ten thousand orders, in a thread of its own. `kept`: a file in which the audit
    remembers what it read of the log, if nothing is broken, and from where the next one goes on (`checkpoint`). Raises
    `EvidenceMissing` when a variable is missing or something cannot be read.
    """
    return await asyncio.to_thread(_audit, environment, kept)


def _audit(environment: Mapping[str, str], kept: Path | None) -> Report:
    begun, at = time.monotonic(), datetime.now(UTC)
    services = [run.find(name) for name in run.services()]
    topics = topics_of(services)
    language = Language.load()
    with ExitStack() as stack:
        reader = stack.enter_context(closing(LogReader(setting(environment, "PAVANE_KAFKA"))))
        partition_count = reader.partition_count(topics, databases.lane_count(environment))
        if astray := reader.astray(topics, partition_count):
            raise EvidenceMissing(str(astray[0]))
        # Views first: whatever they have heard, its speaker's snapshot then knows too (`checkpoint.settled_ends`).
        viewing_first = sorted(services, key=lambda service: not service.is_projection)
        snapshots = {each.name: databases.open_snapshot(stack, each, environment) for each in viewing_first}
        _judge_lanes(snapshots, partition_count)
        world = databases.read_world(environment)
        log = _Log(reader, topics, reader.extents(topics, partition_count))
        evidence = Evidence(
            snapshots={service.name: snapshots[service.name] for service in services},
            world=world,
            records=(),
            ends={},
            later=lambda: {service.name: databases.clocks_now(service, environment) for service in services},
            decoder=Decoder(language, Registry(setting(environment, "PAVANE_REGISTRY")).schema_of),
            partition_of=lambda key: partition_of(key, partition_count),
            now=at,
            starts=log.starts,
        )
        if kept is None:
            verdicts, since = examine(evidence._replace(records=log.records({}, log.ends), ends=log.ends)), None
        else:
            verdicts, since = go_on(evidence, log, kept, checkpoint.code_of(language))
    return Report(at, time.monotonic() - begun, verdicts, since)


class _Log:
    """The log up to the ends that it had at one moment. Implements `incremental.Log`."""

    def __init__(self, reader: LogReader, topics: Sequence[str], extents: Mapping[Where, Extent]) -> None:
        self.starts = {where: extent.start for where, extent in extents.items()}
        self.ends = {where: extent.end for where, extent in extents.items()}
        self._reader = reader
        self._topics = topics
        self._extents = extents

    def records(self, starts: Mapping[Where, int], ends: Mapping[Where, int]) -> Iterator[Record]:
        return self._reader.records(self._topics, ends, starts)

    def check(self, marks: Collection[Mark], kept: Path) -> None:
        anew = f"delete {kept}: the next audit then reads everything"
        for mark in marks:
            start, end = self._extents.get(mark.where, Extent(0, 0))
            expires = mark.topic.endswith((REQUESTS, DEAD_LETTERS))
            if end < mark.next or (start > mark.next and not expires):
                raise EvidenceMissing(
                    f"{mark.topic}/{mark.partition}: an earlier audit has read it up to offset {mark.next}, now it is "
                    f"there from {start} to {end}: records are gone that nobody has audited, or it is another log. "
                    f"Look at the brokers; when you know why, {anew}"
                )
        last = {mark.where: mark for mark in marks if mark.last >= self._extents[mark.where].start}
        at = {where: mark.last for where, mark in last.items()}
        for record in self.records(at, {where: offset + 1 for where, offset in at.items()}):
            mark = last[record.topic, record.partition]
            if (record.offset, digest_of(record)) != (mark.last, mark.digest):
                raise EvidenceMissing(
                    f"{mark.topic}/{mark.partition} offset {mark.last} is not the record that an earlier audit has "
                    f"read there: it is another log. Check PAVANE_KAFKA; if it is right, {anew}"
                )


def topics_of(services: list[Service]) -> list[str]:
    """Every topic that the services say or hear, `orders` first: whatever happens to an order follows from it."""
    said = [service.name for service in services if not service.is_projection]
    aside = [service.name + DEAD_LETTERS for service in services]
    heard = [topic for service in services for topic in service.topics]
    return sorted({*said, *aside, *heard}, key=lambda topic: (topic != "orders", topic))


def _judge_lanes(snapshots: Mapping[str, Snapshot], partition_count: int) -> None:
    for name, snapshot in snapshots.items():
        if beyond := sorted(partition for partition in snapshot.lanes if partition >= partition_count):
            raise EvidenceMissing(
                f"{name} has heard partition {beyond[0]}, but the topics have only {partition_count}: they are not the "
                f"ones that its database belongs to; check PAVANE_KAFKA and PAVANE_DATABASE_{name.upper()}"
            )


class Registry:
    """The schema registry as the audit asks it."""

    def __init__(self, url: str) -> None:
        self._url = url
        # A registry whose database was restarted fails once for each connection that it had, and then answers.
        retries = {"max.retries": REGISTRY_RETRIES, "retries.wait.ms": 50, "retries.max.wait.ms": 500}
        self._client = SchemaRegistryClient({"url": url, "timeout": REGISTRY_TIMEOUT_SECONDS, **retries})

    def schema_of(self, schema_id: int) -> str | None:
        """The schema with that id. Raises `EvidenceMissing` when the registry does not answer."""
        try:
            return self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            raise EvidenceMissing(f"The registry at {self._url} does not tell schema {schema_id}: {error}") from error
        except Exception as error:
            # Confluent's client lets the errors of its HTTP client through; which one that is depends on its version.
            raise EvidenceMissing(f"The registry at {self._url} (PAVANE_REGISTRY) does not answer: {error}") from error


def setting(environment: Mapping[str, str], variable: str) -> str:
    """The variable's value. Raises `EvidenceMissing`."""
    if not (value := environment.get(variable)):
        raise EvidenceMissing(f"{variable} is not set, so there is nothing to audit.")
    return value
