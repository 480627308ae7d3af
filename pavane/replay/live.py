"""The past of a service on a running platform: its database, the log and the registry, all of them only read."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager

from msgspec.structs import replace

from pavane.audit import databases
from pavane.audit.live import Registry, setting
from pavane.audit.log import LogReader
from pavane.replay.history import History, Origin
from streams.kit.lane import DEAD_LETTERS
from streams.kit.log import Record
from streams.kit.service import Service


@contextmanager
def past_of(service: Service, environment: Mapping[str, str]) -> Iterator[History]:
    """What the PAVANE_* variables in `environment` name, as it is now. Raises `EvidenceMissing`."""
    topics = topics_of(service)
    with ExitStack() as stack:
        reader = stack.enter_context(closing(LogReader(setting(environment, "PAVANE_KAFKA"))))
        partition_count = reader.partition_count(topics, databases.lane_count(environment))
        with ExitStack() as reading:
            # First what was heard, then the log's end: so all of what was heard is below it.
            snapshot = databases.open_snapshot(reading, service, environment)
            heard = {partition: dict(lane.clock) for partition, lane in snapshot.lanes.items()}
            waiting: frozenset[Origin] = snapshot.unhandled
        ends = reader.ends(topics, partition_count)
        letters = {where: end for where, end in ends.items() if where[0] == service.name + DEAD_LETTERS}
        dead_letters = _by_place(reader.records([service.name + DEAD_LETTERS], letters))
        records = reader.side_by_side({where: end for where, end in ends.items() if where not in letters})
        yield History(
            partition_count=partition_count,
            records=lambda topic, partition: (
                iter(dead_letters.get((topic, partition), ()))
                if topic.endswith(DEAD_LETTERS)
                else records[topic, partition]
            ),
            schema_of=Registry(setting(environment, "PAVANE_REGISTRY")).schema_of,
            heard=heard,
            waiting=waiting,
            facts=sum(end for (topic, _), end in ends.items() if topic == service.name),
        )


def topics_of(service: Service) -> list[str]:
    """What a replay of the service reads."""
    return sorted({*service.topics, service.name, service.name + DEAD_LETTERS})


def _by_place(records: Iterator[Record]) -> dict[tuple[str, int], list[Record]]:
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        # Its bytes are those of a record that is read where it came from.
        found.setdefault((record.topic, record.partition), []).append(replace(record, value=None))
    return found
