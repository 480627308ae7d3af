"""What an audit sees of the real parts, taken into memory: a test may change a copy and have it judged again."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime

import msgspec

from pavane.audit import databases
from pavane.audit.live import Registry, topics_of
from pavane.audit.log import LogReader
from pavane.audit.snapshot import Snapshot
from streams.kit import run
from streams.kit.log import Record
from tests.pavane.audited import Look, Seen, Where


def looked_at(environment: Mapping[str, str]) -> Look:
    """In the order in which the audit looks: databases, the world, the log, clocks."""
    services = [run.find(name) for name in run.services()]
    topics = topics_of(services)
    with ExitStack() as stack:
        reader = stack.enter_context(closing(LogReader(environment["PAVANE_KAFKA"])))
        partitions = reader.partition_count(topics)
        seen = {each.name: _kept(databases.open_snapshot(stack, each, environment)) for each in services}
        world = databases.read_world(environment)
        ends = reader.ends(topics, partitions)
        log: dict[Where, list[Record]] = {}
        for record in reader.records(topics, ends):
            log.setdefault((record.topic, record.partition), []).append(record)
    later = {each.name: databases.clocks_now(each, environment) for each in services}
    charges = {order_id: list(found) for order_id, found in (world.charges or {}).items()}
    parcels = {order_id: list(found) for order_id, found in (world.parcels or {}).items()}
    schema_of = Registry(environment["PAVANE_REGISTRY"]).schema_of
    return Look(seen, charges, parcels, log, dict(ends), later, datetime.now(UTC), partitions, schema_of)


def _kept(snapshot: Snapshot) -> Seen:
    rows = {
        state: {
            row.row_key: row
            for row in (msgspec.json.decode(each, type=state, strict=False) for each in snapshot.documents(state))
        }
        for state in snapshot.service.states
    }
    decisions = [list(items) for items in snapshot.decisions]
    return Seen(snapshot.service, dict(snapshot.lanes), list(snapshot.unsaid), list(snapshot.parked), rows, decisions)
