"""The audit on live parts: where the environment says, in the order that the package's docstring gives."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from pavane.audit import databases
from pavane.audit.decoding import Decoder
from pavane.audit.errors import EvidenceMissing
from pavane.audit.examination import Evidence, examine
from pavane.audit.log import LogReader
from pavane.audit.report import Report
from pavane.audit.snapshot import Snapshot
from streams.kit import run
from streams.kit.kafka import partition_of
from streams.kit.lane import DEAD_LETTERS
from streams.kit.language import Language
from streams.kit.service import Service

REGISTRY_TIMEOUT_SECONDS = 10
REGISTRY_RETRIES = 10
_NOT_FOUND = 404


async def audit(environment: Mapping[str, str]) -> Report:
    """Audit what the PAVANE_* variables in `environment` name: databases, log, registry. It reads, and writes nothing.

    Takes some seconds for every ten thousand orders, in a thread of its own. Raises `EvidenceMissing` when a variable
    is missing or something cannot be read.
    """
    return await asyncio.to_thread(_audit, environment)


def _audit(environment: Mapping[str, str]) -> Report:
    begun, at = time.monotonic(), datetime.now(UTC)
    services = [run.find(name) for name in run.services()]
    topics = topics_of(services)
    with ExitStack() as stack:
        reader = stack.enter_context(closing(LogReader(setting(environment, "PAVANE_KAFKA"))))
        partition_count = reader.partition_count(topics, databases.lane_count(environment))
        if astray := reader.astray(topics, partition_count):
            raise EvidenceMissing(str(astray[0]))
        snapshots = {service.name: databases.open_snapshot(stack, service, environment) for service in services}
        _judge_lanes(snapshots, partition_count)
        world = databases.read_world(environment)
        ends = reader.ends(topics, partition_count)
        evidence = Evidence(
            snapshots=snapshots,
            world=world,
            records=reader.records(topics, ends),
            ends=ends,
            later=lambda: {service.name: databases.clocks_now(service, environment) for service in services},
            decoder=Decoder(Language.load(), Registry(setting(environment, "PAVANE_REGISTRY")).schema_of),
            partition_of=lambda key: partition_of(key, partition_count),
            now=at,
        )
        verdicts = examine(evidence)
    return Report(at, time.monotonic() - begun, verdicts)


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
