"""A past that was recorded once, and is replayed by every build: `tests/histories/<version>/`.

    <topic>.avro     an Avro container file of the topic's records: their own bytes, keys, headers, times and offsets
    history.json     by which version and where it was recorded, the writers' schemas by id, and of each service how far
                     it had heard and what was not handled
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import fastavro
from msgspec.structs import asdict

from pavane.audit import databases
from pavane.audit.live import Registry, setting, topics_of
from pavane.audit.log import LogReader
from pavane.replay.errors import CannotReplay
from pavane.replay.history import History
from pavane.version import version
from streams.kit.envelope import with_values
from streams.kit.lane import DEAD_LETTERS
from streams.kit.log import Record
from streams.kit.service import Service
from streams.kit.writers import HEAD

NOTES = "history.json"
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Recorded",
        "namespace": "pavane.histories",
        "doc": "One record of a topic, as it was read.",
        "fields": [
            {"name": "partition", "type": "int"},
            {"name": "offset", "type": "long"},
            {"name": "timestamp", "type": "long", "doc": "milliseconds since 1970"},
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"], "doc": "Confluent wire format"},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Header",
                        "fields": [{"name": "name", "type": "string"}, {"name": "value", "type": ["null", "bytes"]}],
                    },
                },
            },
        ],
    }
)


class Recorded:
    """One recorded folder. Raises `CannotReplay` when it is none."""

    def __init__(self, folder: Path) -> None:
        try:
            self._notes: Mapping[str, Any] = json.loads((folder / NOTES).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CannotReplay(f"{folder}: holds no {NOTES} that can be read: {error}") from error
        self._topics = {file.stem: _by_partition(file) for file in sorted(folder.glob("*.avro"))}

    @property
    def services(self) -> list[str]:
        """Whose past it holds."""
        return list(self._notes["services"])

    def of(self, service: Service) -> History:
        """The past of one service."""
        noted = self._notes["services"].get(service.name)
        if noted is None:
            raise CannotReplay(f"this history is not of {service.name}, but of {', '.join(self.services)}")
        schemas: Mapping[str, str] = self._notes["schemas"]
        return History(
            partition_count=self._notes["partition_count"],
            records=lambda topic, partition: iter(self._topics.get(topic, {}).get(partition, ())),
            schema_of=lambda schema_id: schemas.get(str(schema_id)),
            heard={int(partition): clock for partition, clock in noted["heard"].items()},
            waiting=frozenset((topic, partition, offset) for topic, partition, offset in noted["waiting"]),
            facts=sum(map(len, self._topics.get(service.name, {}).values())),
        )


def record(services: list[Service], environment: Mapping[str, str], folder: Path) -> int:
    """Write the past of these services, and return how many records it has. Nothing should be on its way meanwhile:
    what is not in the log yet is not in the history. Raises `EvidenceMissing`, and `CannotReplay` when it is there."""
    if folder.exists() and any(folder.iterdir()):
        raise CannotReplay(f"{folder}: is not empty. A history never changes: choose a new folder.")
    registry = Registry(setting(environment, "PAVANE_REGISTRY"))
    topics = topics_of(services)
    with ExitStack() as stack:
        reader = stack.enter_context(closing(LogReader(setting(environment, "PAVANE_KAFKA"))))
        partition_count = reader.partition_count(topics, databases.lane_count(environment))
        heard = {service.name: _heard(service, environment) for service in services}
        ends = reader.ends(topics, partition_count)
        found: dict[str, list[Record]] = {topic: [] for topic in topics}
        for each in reader.records(topics, ends):
            found[each.topic].append(each)
    ids = {number for records in found.values() for each in records if (number := _schema_id(each)) is not None}
    notes = {
        "version": version(),
        "partition_count": partition_count,
        "services": heard,
        "schemas": {number: text for number in sorted(ids) if (text := registry.schema_of(number)) is not None},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for topic, records in found.items():
        if records:
            _write(folder / f"{topic}.avro", records)
    (folder / NOTES).write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return sum(map(len, found.values()))


def _heard(service: Service, environment: Mapping[str, str]) -> dict[str, Any]:
    with ExitStack() as reading:
        snapshot = databases.open_snapshot(reading, service, environment)
        heard = {partition: dict(lane.clock) for partition, lane in sorted(snapshot.lanes.items())}
        return {"heard": heard, "waiting": sorted(snapshot.unhandled)}


def _schema_id(record: Record) -> int | None:
    """How it was written; None for what is no event. Dead letters hold what was read elsewhere, maybe cut."""
    value = record.value
    if value is None or len(value) < HEAD.size or value[0] != 0 or record.topic.endswith(DEAD_LETTERS):
        return None
    schema_id: int = HEAD.unpack_from(value)[1]
    return schema_id


def _write(file: Path, records: Iterable[Record]) -> None:
    documents = (
        {**asdict(each), "headers": [{"name": name, "value": value} for name, value in with_values(each.headers)]}
        for each in records
    )
    with open(file, "xb", opener=_private) as out:
        fastavro.writer(out, SCHEMA, documents, codec="deflate")


def _private(path: str, flags: int) -> int:
    """Requests in plain text hold personal texts: nobody else may read them."""
    return os.open(path, flags, 0o600)


def _by_partition(file: Path) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for each in _read(file):
        found.setdefault(each.partition, []).append(each)
    return found


def _read(file: Path) -> Iterator[Record]:
    with file.open("rb") as stored:
        for each in fastavro.reader(stored):
            assert isinstance(each, dict)
            headers = [(header["name"], header["value"]) for header in each["headers"]]
            yield Record(
                file.stem, each["partition"], each["offset"], each["timestamp"], each["key"], each["value"], headers
            )
