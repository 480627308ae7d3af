"""Batches of requests to the counter service, folded in memory."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from streams.kit.envelope import Envelope
from streams.kit.events import Answer, State, milliseconds
from streams.kit.fold import Asked, Fold
from streams.kit.lane import DUE, Delivery, Draft, Holding, Lane
from streams.kit.log import Record
from streams.kit.opening import Opened, Opener
from streams.kit.parking import Parked
from streams.kit.rows import Rows
from streams.kit.service import Service
from tests.kit.counter import Counter, decode
from tests.kit.counter_events import Added, Count

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Batch:
    """Requests to one counter service, in one lane, folded over rows that nothing was said about."""

    def __init__(self, counter: Counter, *states: State, service: Service | None = None) -> None:
        self.counter = counter
        self.service = service or counter.service
        self.lane = Lane(counter.name, 0, self.service.topics, Holding(1, {}, {}, 0, 0))
        self.rows = Rows()
        for state in states:
            self.rows.give(type(state), [state], [])
        self.draft = Draft(self.lane, [], {})
        self.count = 0

    def asks(self, key: str, amount: int = 1, how: str = "", into: str = "") -> "Batch":
        return self.record(key, self.counter.add(key, amount, how, into))

    def record(self, key: str, value: bytes) -> "Batch":
        self.lane.push(Record(self.counter.requests, 0, self.count, milliseconds(NOON), key.encode(), value, ()))
        self.count += 1
        self.rows.give(Count, [], [key])
        return self

    def due(self, key: str) -> "Batch":
        record = Record(self.counter.name + DUE, 0, 0, milliseconds(NOON), key.encode(), None, ())
        self.draft.deliveries.append(Delivery(record, Envelope(key, record.topic, 0, 0, {}, "", key, None)))
        return self

    def opened(self) -> list[Opened]:
        due = self.draft.deliveries
        self.draft = self.lane.order(100)
        self.draft.deliveries += due
        return Opener(self.service, self.counter.codec, lambda key: 0).open(self.draft)

    def folded(self, answers: dict[Asked, Answer] | None = None) -> Fold:
        opened = self.opened()
        return self.again(opened, answers or {})

    def again(self, opened: Sequence[Opened], answers: dict[Asked, Answer]) -> Fold:
        self.rows.reset()
        fold = Fold(self.service, self.counter.codec, self.rows, answers, milliseconds(NOON))
        fold.lane(self.draft, opened)
        return fold

    def tries_again(self, parked: Parked, answers: dict[Asked, Answer] | None = None) -> "Batch":
        """The next batch: nothing but this parked record."""
        self.draft = Draft(self.lane, [Delivery(parked.record, parked.envelope, parked)], {})
        self.again(Opener(self.service, self.counter.codec, lambda key: 0).open(self.draft), answers or {})
        return self

    def said(self, kind: type[Any] = Added) -> list[Any]:
        own = [fact for fact in self.draft.said if dict(fact.headers).get("ce_type") == kind.__name__.encode()]
        return [decode(self.counter, kind, fact.value) for fact in own]

    @property
    def letters(self) -> list[dict[str, bytes]]:
        return [dict(fact.headers) for fact in self.draft.said if fact.topic.endswith(".dead-letters")]
