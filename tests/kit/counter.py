"""A small service for the kit's tests. It counts what it is asked to add, and does on request all that services may do.

It hears `<name>.requests` and the facts of two other speakers, `<name>-left` and `<name>-right`. `how` says what its
decision does: nothing special, ask the world, set a deadline, raise, say what it must not say. With `shares` it adds to
shared rows instead of asking the world.
"""

import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from streams.kit.codec import Codec
from streams.kit.errors import Refused
from streams.kit.events import Answer, Due, Effect, Event, Heard
from streams.kit.language import Language, Schema
from streams.kit.service import Said, Service
from tests.kit.counter_events import (
    EVENTS,
    Add,
    Added,
    Count,
    Entry,
    Expired,
    Postponed,
    Ring,
    Rung,
    Told,
    Total,
    Unsaid,
)

E = TypeVar("E", bound=Event)


class Bells:
    """The world: numbers bells in the order in which they are first asked for."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.rounds: list[list[str]] = []

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        self.rounds.append([effect.key for effect in effects])
        return [Rung(number=self.numbers.setdefault(each.key, len(self.numbers) + 1)) for each in effects]


@dataclass
class SchemaIds:
    """A registry in memory."""

    texts: list[str] = field(default_factory=list)

    async def id_of(self, subject: str, schema: str) -> int:
        if schema not in self.texts:
            self.texts.append(schema)
        return self.texts.index(schema)

    async def schema_of(self, schema_id: int) -> str | None:
        return self.texts[schema_id] if schema_id < len(self.texts) else None


@dataclass
class Counter:
    """The service under a name, its language, and a codec that knows what everybody says."""

    name: str
    service: Service
    language: Language
    bells: Bells
    codec: Codec
    registry: SchemaIds

    @property
    def requests(self) -> str:
        return f"{self.name}.requests"

    @property
    def left(self) -> str:
        return f"{self.name}-left"

    @property
    def right(self) -> str:
        return f"{self.name}-right"

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics, heard and said."""
        return (self.requests, self.left, self.right, self.name, f"{self.name}.dead-letters")

    def add(self, counter: str, amount: int = 1, how: str = "", into: str = "") -> bytes:
        """The bytes of a request."""
        return self.codec.encode(Add(counter=counter, amount=amount, how=how, into=into))

    def told(self, counter: str, amount: int = 1) -> bytes:
        """The bytes of what another speaker says."""
        return self.codec.encode(Told(counter=counter, amount=amount))

    def unknown_schema(self) -> bytes:
        """A value whose schema the registry does not know."""
        return struct.pack(">bI", 0, 4_000_000_000) + b"\x00"


async def make_counter(name: str = "counter", shares: bool = False, registry: Any = None) -> Counter:
    """A counter under that name, ready to encode and decode."""
    language, bells, registry = _language(name), Bells(), registry or SchemaIds()
    codec = Codec(language, registry)
    for end, events in EVENTS.items():
        await codec.prepare(name + end, events)
    counter = Counter(name, _service(name, shares, bells), language, bells, codec, registry)
    said = Added(counter="c", amount=1), Postponed(counter="c", due_at=datetime.now(UTC)), Expired(counter="c")
    await codec.learn([counter.add("c"), counter.told("c"), *map(codec.encode, said)])
    return counter


def decode(counter: Counter, fact: type[Event], value: bytes | None) -> Any:
    """A fact of the counter's own, read back."""
    return counter.codec.decode(value, view(counter.name, fact), {})


def view(topic: str, event: type[Event], name: str = "", **more: Any) -> type[Heard]:
    """A consumer's view with the fields of `event` and `more`, of the event of that name (by default the same)."""
    fields = {each.name: each.type for each in msgspec.structs.fields(event)}
    return declared(Heard, name or event.__name__, {**fields, **more}, topic=topic)


def declared(base: type[E], name: str, fields: Mapping[str, Any], **arguments: str) -> type[E]:
    """What `class name(base, **arguments)` with these fields declares."""
    metaclass: Any = type(base)
    made: type[E] = metaclass(name, (base,), {"__annotations__": fields, "__module__": __name__}, **arguments)
    return made


def _service(name: str, shares: bool, bells: Bells) -> Service:
    @asynccontextmanager
    async def world() -> AsyncIterator[Bells]:
        yield bells

    service = Service(
        name,
        states=[Count, Entry, *([Total] if shares else [])],
        says=[Added, Postponed, Expired],
        world=None if shares else world,
    )
    service.hears(view(f"{name}.requests", Add, at=datetime))(add)
    for side in ("left", "right"):
        service.hears(view(f"{name}-{side}", Told))(add_told)
    service.due(expire)
    if not shares:
        service.answers(Ring)(add_number)
    service.evolves(Added)(added)
    service.evolves(Added, each=_entries)(entered)
    service.evolves(Postponed)(postponed)
    service.evolves(Expired)(expired)
    if shares:
        service.evolves(Added, each=lambda fact: filter(None, fact.into.split(",")))(totalled)
    return service.verify()


def add(count: Count, asked: Any) -> Iterator[Said]:
    own = Added(counter=count.counter, amount=asked.amount, into=asked.into)
    match asked.how:
        case "":
            yield own
        case "nothing":
            return
        case "ring":
            yield replace(own, amount=0, note="before")
            yield Ring(bell=count.counter)
            yield replace(own, amount=0, note="after")
        case "later" | "stuck":
            yield Postponed(
                counter=count.counter, due_at=asked.at + timedelta(milliseconds=asked.amount), note=asked.how
            )
        case "raise":
            yield own
            raise ZeroDivisionError("the decision divides by zero")
        case "refuse":
            raise Refused("not today")
        case "zero":
            yield replace(own, note="a zero character: \0")
        case "other key":
            yield own
            yield replace(own, counter=f"{count.counter}-other")
        case "undeclared":
            yield own
            yield Unsaid(counter=count.counter)
        case "huge":
            yield own
            yield replace(own, note="x" * 1_000_000)
        case how:
            raise AssertionError(f"the test asks for {how!r}")


def add_told(count: Count, told: Any) -> Iterator[Said]:
    yield Added(counter=count.counter, amount=told.amount)


def add_number(count: Count, answer: Rung) -> Iterator[Said]:
    yield Added(counter=count.counter, amount=answer.number, note="rung")
    if answer.number < 0:
        yield Unsaid(counter=count.counter)


def expire(count: Count, due: Due) -> Iterator[Said]:
    if count.note != "stuck":
        yield Expired(counter=count.counter)


def added(count: Count, fact: Added) -> Count:
    return replace(count, total=count.total + fact.amount, facts=count.facts + 1, note=fact.note)


def entered(entry: Entry, fact: Added) -> Entry:
    return replace(entry, amount=fact.amount)


def postponed(count: Count, fact: Postponed) -> Count:
    return replace(count, due_at=fact.due_at, note=fact.note)


def expired(count: Count, fact: Expired) -> Count:
    return replace(count, due_at=None, note="expired")


def totalled(total: Total, fact: Added) -> Total:
    return replace(total, amount=total.amount + fact.amount, note=fact.note)


def _entries(fact: Added) -> Iterator[str]:
    if fact.note:
        yield f"{fact.counter}/{fact.note}"


def _language(name: str) -> Language:
    avro = {str: "string", int: "long", datetime: {"type": "long", "logicalType": "timestamp-millis"}}
    schemas = []
    for end, events in EVENTS.items():
        for event in events:
            namespace = "pavane." + (name + end).replace("-", "_")
            fields = [{"name": each.name, "type": avro[each.type]} for each in msgspec.structs.fields(event)]
            raw: dict[str, Any] = {
                "type": "record", "name": event.__name__, "namespace": namespace, "fields": fields,
            }  # fmt: skip
            text = msgspec.json.encode(raw).decode()
            file = Path(name + end) / f"{event.__name__}.v1.avsc"
            fullname = f"{namespace}.{event.__name__}"
            schemas.append(Schema(name + end, event.__name__, 1, fullname, raw, text, file))
    return Language(schemas)
