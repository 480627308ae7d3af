"""The records that a version would meet: unread, parked, or among its own service's facts; by topic and schema id.

Only their first five bytes and their times are kept. A value that names no schema is nobody's to understand.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pavane.audit.ledger import Where
from pavane.dead_letters import items
from pavane.deploy.judging import Running
from pavane.lanes.listing import Lane
from pavane.lanes.reading import LogView
from pavane.operators.reach import Reach
from streams.kit.announcing import Announcement
from streams.kit.compiled import HEAD_BYTES
from streams.kit.events import from_milliseconds
from streams.kit.log import Record
from streams.kit.writers import HEAD

UNREAD, PARKED, OWN = "unread", "parked", "own"
RECORDS_AT_ONCE = 2_000
MOST_LOOKED_AT = 500_000


class Kind(NamedTuple):
    """Where records were met, on which topic, and by which schema they were written."""

    where: str
    topic: str
    schema_id: int


class Seen(NamedTuple):
    """How many records of one kind, and the oldest of them: topic/partition/offset and time."""

    records: int
    oldest: str
    oldest_at: datetime


class Meeting:
    """Counts records. `left_out`: how many were not looked at, as there are too many."""

    def __init__(self) -> None:
        self.seen: dict[Kind, Seen] = {}
        self.left_out = 0
        self._looked_at = 0

    def note(self, where: str, record: Record) -> None:
        value = record.value
        if value is None or len(value) < HEAD_BYTES or value[0] != 0:
            return
        kind = Kind(where, record.topic, HEAD.unpack_from(value)[1])
        place, at = f"{record.topic}/{record.partition}/{record.offset}", from_milliseconds(record.timestamp)
        before = self.seen.get(kind, Seen(0, place, at))
        first = Seen(0, place, at) if at < before.oldest_at else before
        self.seen[kind] = first._replace(records=before.records + 1)

    def look(self, log: LogView, where: str, begins: Mapping[Where, int]) -> None:
        """Count what the log has from these offsets on."""
        for (topic, partition), extent in log.extents(begins.keys()).items():
            first = max(begins[topic, partition], extent.start)
            for record in self._records(log, topic, partition, first, extent.end):
                self.note(where, record)

    def _records(self, log: LogView, topic: str, partition: int, first: int, end: int) -> Iterator[Record]:
        while first < end:
            if self._looked_at >= MOST_LOOKED_AT:
                self.left_out += end - first
                return
            found = log.records(topic, partition, first, end, RECORDS_AT_ONCE)
            if not found:
                return
            yield from found
            self._looked_at += len(found)
            first = found[-1].offset + 1


async def meeting(reach: Reach, candidate: Announcement, lanes: Sequence[Lane], ran: Sequence[Running]) -> Meeting:
    """Everything that `candidate` would meet. `ran`: all versions of its service that ever ran here."""
    met = Meeting()
    if not candidate.hears:
        return met
    async with reach.database(candidate.service, reading=True) as connection:
        async for item in items.everything(connection, candidate.service):
            met.note(PARKED, item.parked.record)
    unread = {(topic, lane.partition): lane.positions.get(topic, 0) for lane in lanes for topic in candidate.hears}
    partitions = [lane.partition for lane in lanes]
    await asyncio.to_thread(_look, reach.kafka, met, unread, candidate, partitions, _unknown_since(candidate, ran))
    return met


def _look(
    kafka: str,
    met: Meeting,
    unread: Mapping[Where, int],
    candidate: Announcement,
    partitions: Sequence[int],
    unknown_since: datetime | None,
) -> None:
    with LogView.at(kafka) as log:
        met.look(log, UNREAD, unread)
        if unknown_since is not None:
            met.look(log, OWN, log.since([(candidate.service, each) for each in partitions], unknown_since))


def _unknown_since(candidate: Announcement, ran: Sequence[Running]) -> datetime | None:
    """Since when its topic may hold facts that it does not know: when a version that says them first ran."""
    mine = set(candidate.says.get(candidate.service, ()))
    return min((each.first_at for each in ran if set(each.said.says.get(candidate.service, ())) - mine), default=None)
