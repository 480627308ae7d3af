"""Events as bytes: Confluent wire format (a zero byte, the schema's id in four bytes, Avro).

A writer uses the newest released schema of each event, by the id that the registry gave it. A reader resolves the
writer's schema, found by the id in the record, into the consumer's own view, which names only the fields it reads.
"""

import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from io import BytesIO
from typing import Any, Protocol

import fastavro
import msgspec

from streams.kit.compiled import HEAD_BYTES, Read, Write, reader, writer
from streams.kit.errors import LanguageError, Undecodable
from streams.kit.events import Event, Fact, Heard, Request
from streams.kit.language import Language
from streams.kit.logs import logger

_HEAD = struct.Struct(">bI")
GIVEN_BY_THE_KIT = frozenset({"at", "about"})


class Registry(Protocol):
    """Where schema ids are kept: the two questions that a running process asks of it."""

    async def id_of(self, subject: str, schema: str) -> int:
        """The id of a schema that was registered. Raises `LanguageError`."""
        ...

    async def schema_of(self, schema_id: int) -> str | None:
        """The schema with that id, as JSON; None if the registry knows none."""
        ...


class Codec:
    """Encodes what a process says, decodes what it hears. Ids are learned first, as that asks the registry.

    Readers and writers are compiled once (`compiled`); where a schema is not covered there, fastavro serves. A value's
    first five bytes, its head, stand for the writer's schema.
    """

    def __init__(self, language: Language, registry: Registry) -> None:
        self._language = language
        self._registry = registry
        self._encoders: dict[type[Event], tuple[bytes, Write]] = {}
        self._writers: dict[bytes, tuple[str, Any]] = {}
        self._views: dict[type[Heard], tuple[Any, tuple[str, ...]]] = {}
        self._readers: dict[tuple[bytes, type[Heard]], tuple[Read, tuple[str, ...]]] = {}
        self._no_events: set[bytes] = set()

    # -- writing -----------------------------------------------------------------------------------------------------

    async def prepare(self, topic: str, events: Iterable[type[Event]]) -> None:
        """Look up the ids of what will be said on `topic`. Raises `LanguageError` if a schema was not registered."""
        for event in events:
            schema = self._language.latest(topic, event.__name__)
            schema_id = await self._registry.id_of(schema.subject, schema.text)
            parsed = _parsed(schema.raw)
            self._encoders[event] = (_HEAD.pack(0, schema_id), writer(parsed) or _general_writer(parsed))

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

    async def learn(self, values: Iterable[bytes | None]) -> None:
        """Fetch the schemas of ids not seen before. Ids that the registry does not know stay unknown for this time."""
        for head in {value[:HEAD_BYTES] for value in values if value} - self._writers.keys() - self._no_events:
            if len(head) < HEAD_BYTES or head[0] != 0:
                continue
            text = await self._registry.schema_of(_HEAD.unpack(head)[1])
            if text is None:
                continue
            try:
                raw = msgspec.json.decode(text)
                self._writers[head] = (str(raw["name"]).rpartition(".")[2], _parsed(raw))
            except Exception as error:
                # Anybody may register anything; what is no Avro record cannot be the schema of an event.
                logger().warning("schema_no_event", schema_id=_HEAD.unpack(head)[1], error=str(error))
                self._no_events.add(head)

    def name_of(self, value: bytes | None) -> str:
        """The name of the event in `value`. Raises `Undecodable`."""
        return self._writer_of(value)[0]

    def decode(self, value: bytes | None, view: type[Heard], given: Mapping[str, Any]) -> Heard:
        """The consumer's view of `value`. `given`: what the kit knows besides (`at`, `about`). Raises `Undecodable`."""
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

    def _writer_of(self, value: bytes | None) -> tuple[str, Any]:
        found = self._writers.get(value[:HEAD_BYTES]) if value is not None else None
        if found is not None:
            return found
        if value is None or len(value) < HEAD_BYTES or value[0] != 0:
            start = "nothing" if value is None else repr(bytes(value[:8]))
            raise Undecodable(f"not in Confluent wire format (a zero byte and a schema id): it starts with {start}")
        schema_id = _HEAD.unpack_from(value)[1]
        if value[:HEAD_BYTES] in self._no_events:
            raise Undecodable(f"the schema with id {schema_id} is no Avro record, so this is no event")
        raise Undecodable(f"the registry knows no schema with id {schema_id}")

    def _reader_of(self, value: bytes, view: type[Heard], written: Any) -> tuple[Read, tuple[str, ...]]:
        """How to read a view from what was written with that head, and which of its fields the kit gives."""
        wanted, extras = self._views.get(view) or self._view(view)
        found = reader(written, wanted) or _general_reader(written, wanted)
        self._readers[value[:HEAD_BYTES], view] = found, extras
        return found, extras

    def _view(self, view: type[Heard]) -> tuple[Any, tuple[str, ...]]:
        """The reader schema of a view, and which of its fields the kit gives: those that the event itself lacks."""
        own = self._language.latest(view.topic, view.__name__).fields
        extras = tuple(field for field in view.__struct_fields__ if field in GIVEN_BY_THE_KIT and field not in own)
        read = [field for field in view.__struct_fields__ if field not in extras]
        self._views[view] = _parsed(self._language.reader(view.topic, view.__name__, read)), extras
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


def _parsed(raw: Any) -> Any:
    """A schema as fastavro wants it; `uuid` stays text, since a UUID object would only be turned back into text."""
    return fastavro.parse_schema(_without_uuid(raw), _write_hint=False)


def _without_uuid(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {k: _without_uuid(v) for k, v in raw.items() if not (k == "logicalType" and v == "uuid")}
    if isinstance(raw, list):
        return [_without_uuid(item) for item in raw]
    return raw


# Datetimes stay as they are: Avro's timestamp-millis takes them.
_plain = partial(msgspec.to_builtins, builtin_types=(datetime,))
