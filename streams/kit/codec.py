"""Events as bytes: Confluent wire format (a zero byte, the schema's id in four bytes, Avro).

A writer uses the newest released schema of each event, by the id that the registry gave it. A reader resolves the
writer's schema, found by the id in the record, into the consumer's own view, which names only the fields it reads.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from functools import partial
from io import BytesIO
from typing import Any, TypeVar, cast

import fastavro
import msgspec

from streams.kit.compiled import HEAD_BYTES, Read, Write, reader, writer
from streams.kit.errors import LanguageError, Undecodable
from streams.kit.events import Event, Fact, Heard, Request
from streams.kit.language import Language, Schema
from streams.kit.writers import HEAD, Registry, Writer, Writers, parsed, written_by

GIVEN_BY_THE_KIT = frozenset({"at", "about"})
E = TypeVar("E", bound=Event)


class Codec:
    """Encodes what a process says, decodes what it hears. Ids are learned first, as that asks the registry.

    Readers and writers are compiled once (`compiled`); where a schema is not covered there, fastavro serves. A value's
    first five bytes, its head, stand for the writer's schema.
    """

    def __init__(self, language: Language, registry: Registry) -> None:
        self._language = language
        self._registry = registry
        self._encoders: dict[type[Event], tuple[bytes, Write]] = {}
        self._writers = Writers(registry)
        self._views: dict[type[Event], tuple[Any, tuple[str, ...]]] = {}
        self._readers: dict[tuple[bytes, type[Event]], tuple[Read, tuple[str, ...]]] = {}

    # -- writing -----------------------------------------------------------------------------------------------------

    async def prepare(self, topic: str, events: Iterable[type[Event]]) -> None:
        """Look up the ids of what will be said on `topic`. Raises `LanguageError` if a schema was not registered."""
        for event in events:
            schema = self._language.latest(topic, event.__name__)
            schema_id = await self._registry.id_of(schema.subject, schema.text)
            released = parsed(schema.raw)
            self._encoders[event] = (HEAD.pack(0, schema_id), writer(released) or _general_writer(released))

    def encode(self, event: Fact | Request) -> bytes:
        """The event's bytes. Raises `LanguageError` when a value does not fit the schema."""
        head, write = self._encoders[type(event)]
        value = bytearray(head)
        try:
            write(_plain(event), value)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise LanguageError(f"{type(event).__name__} does not fit its schema: {error}") from error
        return bytes(value)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def expect(self, topics: Collection[str]) -> None:
        """Learn every released version of what is said on `topics`, so that it can be read, or be seen to be nobody's
        business here, while the registry is away."""
        await asyncio.gather(*(self._expect(schema) for schema in self._language if schema.topic in topics))

    async def _expect(self, schema: Schema) -> None:
        # What was not registered nobody can have said.
        with contextlib.suppress(LanguageError):
            schema_id = await self._registry.id_of(schema.subject, schema.text)
            self._writers.known[HEAD.pack(0, schema_id)] = written_by(schema.raw)

    async def learn(self, values: Iterable[bytes | None], patience_seconds: float | None = None) -> None:
        """Fetch the schemas of ids not seen before. Ids that the registry does not know stay unknown for this time.

        Raises `RegistryAway`; with a patience, only `name_of` and `decode` do, for values that need an answer.
        """
        await self._writers.learn(values, patience_seconds)

    def name_of(self, value: bytes | None) -> str:
        """The name of the event in `value`. Raises `Undecodable` and `RegistryAway`."""
        return self._writer_of(value)[0]

    def read_own(self, topic: str, facts: Iterable[type[Fact]]) -> None:
        """Have `decode` read these facts too, whole, whatever their version: what a service said itself, to rebuild."""
        for fact in facts:
            released = self._language.reader(topic, fact.__name__, fact.__struct_fields__)
            self._views[fact] = parsed(released), ()

    def decode(self, value: bytes | None, view: type[E], given: Mapping[str, Any]) -> E:
        """The consumer's view of `value`. `given`: what the kit knows besides (`at`, `about`).

        Raises `Undecodable`, and `RegistryAway` while the registry does not say how it was written.
        """
        name, written = self._writer_of(value)
        assert value is not None
        try:
            read, extras = self._readers.get((value[:HEAD_BYTES], view)) or self._reader_of(value, view, written)
            fields = read(value)
            for extra in extras:
                fields[extra] = given[extra]
            return msgspec.convert(fields, view)
        except Exception as error:
            # Bytes from outside can break an Avro reader in any way; whatever it raises, they are not an event.
            raise Undecodable(f"the bytes are no {name} as {view.__name__} is read: {error}") from error

    def _writer_of(self, value: bytes | None) -> Writer:
        found = self._writers.known.get(value[:HEAD_BYTES]) if value is not None else None
        return found or self._writers.of(value)

    def _reader_of(self, value: bytes, view: type[Event], written: Any) -> tuple[Read, tuple[str, ...]]:
        """How to read a view from what was written with that head, and which of its fields the kit gives."""
        wanted, extras = self._views.get(view) or self._view(cast("type[Heard]", view))
        found = reader(written, wanted) or _general_reader(written, wanted)
        self._readers[value[:HEAD_BYTES], view] = found, extras
        return found, extras

    def _view(self, view: type[Heard]) -> tuple[Any, tuple[str, ...]]:
        """The reader schema of a view, and which of its fields the kit gives: those that the event itself lacks."""
        own = self._language.latest(view.topic, view.__name__).fields
        extras = tuple(field for field in view.__struct_fields__ if field in GIVEN_BY_THE_KIT and field not in own)
        read = [field for field in view.__struct_fields__ if field not in extras]
        self._views[view] = parsed(self._language.reader(view.topic, view.__name__, read)), extras
        return self._views[view]


def _general_reader(written: Any, wanted: Any) -> Read:
    def read(value: bytes) -> dict[str, Any]:
        buffer = BytesIO(value)
        buffer.seek(HEAD_BYTES)
        return fastavro.schemaless_reader(buffer, written, wanted)  # type: ignore[return-value]

    return read


def _general_writer(schema: Any) -> Write:
    def write(fields: Mapping[str, Any], value: bytearray) -> None:
        buffer = BytesIO()
        fastavro.schemaless_writer(buffer, schema, fields)
        value += buffer.getvalue()

    return write


# Datetimes stay as they are: Avro's timestamp-millis takes them.
_plain = partial(msgspec.to_builtins, builtin_types=(datetime,))
