"""From records to events: each delivery decoded into the view that the service declares, or the reason why not."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from streams.kit.codec import Codec
from streams.kit.errors import Refused, RegistryAway, Undecidable, Undecodable
from streams.kit.events import About, Due, Event, Heard, from_milliseconds
from streams.kit.lane import DUE, REQUESTS, RETRIED, Delivery, Draft
from streams.kit.parking import NOT_KNOWN
from streams.kit.service import Service

MOST_KEY_BYTES = 512
PartitionOf = Callable[[bytes], int]


class Opened(Struct, frozen=True):
    """A delivery as the service sees it. Without an `event` there is nothing to decide: not read here, or a `problem`,
    for good or until the registry answers.

    `key` is the record's key: what the event is about. `row`: the key of the row that the decision is about.
    """

    delivery: Delivery
    event: Event | None
    key: str
    row: str
    problem: Undecidable | RegistryAway | None = None


class Opener:
    """Opens the deliveries of one service. `partition_of`: the partition that a record key belongs in."""

    def __init__(self, service: Service, codec: Codec, partition_of: PartitionOf) -> None:
        self._views = {(view.topic, view.__name__): view for view in service.views}
        self._row_keys = {reaction.heard: reaction.key for reaction in service.reactions.values() if reaction.key}
        self._codec = codec
        self._partition_of = partition_of

    def open(self, draft: Draft) -> list[Opened]:
        """Every delivery of the draft, in its order."""
        lane = draft.lane
        heard = sum(known for who, known in lane.clock.items() if who in lane.hears)
        # Parked records that are told again do not move the clock of their speakers: they are counted by themselves.
        told = heard + lane.clock.get(lane.me + RETRIED, 0)
        return [self.one(delivery, told + number) for number, delivery in enumerate(draft.deliveries, 1)]

    def one(self, delivery: Delivery, ordinal: int) -> Opened:
        """One delivery; `ordinal`: its place among all that the lane has heard."""
        record = delivery.record
        if record.topic.endswith(DUE):
            key = (record.key or b"").decode()
            return Opened(delivery, Due(at=from_milliseconds(record.timestamp)), key, key)
        try:
            name = self._codec.name_of(record.value)
            view = self._views.get((record.topic, name))
            if view is None:
                return self._unheard(delivery, name)
            key = self._key_of(delivery)
            given = _given(view, name, delivery, ordinal)
            event = self._codec.decode(record.value, view, given)
            return Opened(delivery, event, key, self._row_of(event, key))
        except RegistryAway as problem:
            return self._unread(delivery, problem)
        except Undecidable as problem:
            return _without_event(delivery, problem)

    def _unheard(self, delivery: Delivery, name: str) -> Opened:
        """Nobody's business here, unless an earlier version has parked it: what it would have done is not done yet.
        What was parked because nobody could tell what it is has called for nothing."""
        if delivery.parked is None or delivery.parked.reason in NOT_KNOWN:
            return Opened(delivery, None, "", "")
        raise Undecidable(
            f"an earlier version parked this {name}, and this one does not hear it: what it called for is not done. "
            f"Deploy a version that hears it, then 'pavane dead-letters redrive' it; or, if it is to be left undone, "
            f"'pavane dead-letters discard' it"
        )

    def _unread(self, delivery: Delivery, problem: RegistryAway) -> Opened:
        """It cannot be read for now, and waits with its key; without a right key it can never be handled."""
        try:
            return Opened(delivery, None, self._key_of(delivery), "", problem)
        except Undecidable as final:
            return _without_event(delivery, final)

    def _row_of(self, event: Event, key: str) -> str:
        row_key = self._row_keys.get(type(event))
        if row_key is None:
            return key
        try:
            return row_key(event)
        except Refused:
            raise
        except Exception as error:
            # The service's own key function cannot cope with the event: no retry helps.
            raise Undecidable(f"{type(event).__name__} names no row: {error}") from error

    def _key_of(self, delivery: Delivery) -> str:
        record = delivery.record
        try:
            key = (record.key or b"").decode()
        except UnicodeDecodeError:
            raise Undecodable("the record's key is not UTF-8 text") from None
        if not record.key:
            raise Undecodable("the record has no key, so nothing says which partition it belongs in")
        if len(record.key) > MOST_KEY_BYTES or not key.isprintable():
            raise Undecodable(f"the record's key has control characters or over {MOST_KEY_BYTES} bytes: {key[:40]!r}")
        if record.topic.endswith(REQUESTS) and self._partition_of(record.key) != record.partition:
            raise Undecodable(
                f"the key {key!r} belongs in partition {self._partition_of(record.key)}, not {record.partition}: the "
                f"producer must use the Java-compatible murmur2 partitioner"
            )
        return key


def _without_event(delivery: Delivery, problem: Undecidable) -> Opened:
    key = (delivery.record.key or b"")[:MOST_KEY_BYTES].decode(errors="replace")
    return Opened(delivery, None, key, "", problem)


def _given(view: type[Heard], name: str, delivery: Delivery, ordinal: int) -> dict[str, Any]:
    """The fields that a view may declare besides those of the event."""
    given: dict[str, Any] = {}
    fields = view.__struct_fields__
    if "at" in fields:
        given["at"] = from_milliseconds(delivery.record.timestamp)
    if "about" in fields:
        said = delivery.envelope
        given["about"] = About(
            id=said.id,
            name=name,
            speaker=said.speaker,
            cause=said.cause,
            correlation=said.correlation,
            ordinal=ordinal,
        )
    return given
