"""What no story shows: requests that `orders` has not heard have none yet, and facts that the timeline has not heard
are in none. Such records are told once they wait longer than a moment."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from api.late import LEAST_SECONDS
from pavane.audit.ledger import Where
from pavane.lanes.reading import LogView
from pavane.operators.reach import Reach
from pavane.overdue.reasons import Known, Why, behind
from streams.kit.events import from_milliseconds
from streams.kit.lane import REQUESTS

ACCEPTS, VIEW = "orders", "timeline"


class Unheard(NamedTuple):
    """`service` has yet to hear so many `things` in these lanes, the first of them for so long, and all for one reason.

    No `records`: nobody knows how many, since its database or Kafka cannot be asked.
    """

    service: str
    things: str
    records: int
    waited_seconds: float
    lanes: frozenset[int]
    why: Why


def unheard(reach: Reach, known: Known, services: Sequence[str], now: datetime) -> list[Unheard]:
    """What has waited for these services longer than a moment, by reason. Raises `NotAsked` when Kafka does not answer
    that was not known to be away."""
    if known.log_away:
        return [_unknown(known, service) for service in services]
    found: dict[tuple[str, str], Unheard] = {}
    with LogView.at(reach.kafka) as log:
        for service in services:
            if service in known.away:
                unknown = _unknown(known, service)
                found[service, unknown.why.reason] = unknown
                continue
            topics = reach.find(service).topics
            if service == ACCEPTS:
                topics = tuple(topic for topic in topics if topic.endswith(REQUESTS))
            for each in _of(log, known, service, topics, now):
                before = found.get((service, each.why.reason), each._replace(records=0))
                found[service, each.why.reason] = before._replace(
                    records=before.records + each.records,
                    waited_seconds=max(each.waited_seconds, before.waited_seconds),
                    lanes=before.lanes | each.lanes,
                )
    return list(found.values())


def _unknown(known: Known, service: str) -> Unheard:
    """Nobody knows how far it has heard, or what there is to hear."""
    things = "request" if service == ACCEPTS else "fact"
    return Unheard(service, things, 0, 0.0, frozenset(), behind(known, service, 0))


def _of(log: LogView, known: Known, service: str, topics: Sequence[str], now: datetime) -> Iterator[Unheard]:
    """By topic and lane."""
    counts: Mapping[str, int] = log.counts(topics)
    remembered = sum(of == service for of, _ in known.lanes)
    places = [(topic, lane) for topic, count in counts.items() for lane in range(remembered or count)]
    extents = log.extents(places)
    # Of a partition with nothing newer there is no offset: all of it is old.
    recent = log.since(extents.keys(), now - timedelta(seconds=LEAST_SECONDS))
    waits: dict[Where, int] = {}
    for (topic, lane), extent in extents.items():
        stands = known.lanes.get((service, lane))
        position = max(extent.start, stands.positions.get(topic, 0) if stands is not None else 0)
        if position < min(recent.get((topic, lane), extent.end), extent.end):
            waits[topic, lane] = position
    first = log.first_records(waits)
    for (topic, lane), record in first.items():
        # Where there is none, nothing is left but the markers of a transaction: they take offsets.
        position = waits[topic, lane]
        waited = max(0.0, (now - from_milliseconds(record.timestamp)).total_seconds())
        things = "request" if topic.endswith(REQUESTS) else "fact"
        records = extents[topic, lane].end - position
        yield Unheard(service, things, records, waited, frozenset({lane}), behind(known, service, lane))
