"""Events out of records, by the released schemas: every field of the latest version, decoded once for all readers."""

import struct
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import msgspec

from streams.kit.errors import LanguageError, Undecodable
from streams.kit.language import Language

_HEAD = struct.Struct(">bI")


class Decoder:
    """Decodes Confluent wire format. `schema_of`: the schema with an id, as JSON, or None if nobody knows it."""

    def __init__(self, language: Language, schema_of: Callable[[int], str | None]) -> None:
        self._language = language
        self._schema_of = schema_of
        self._writers: dict[int, tuple[str, Any] | None] = {}
        self._readings: dict[tuple[str, int], tuple[str, Any, Any]] = {}

    def name_of(self, value: bytes | None) -> str:
        """The event's name. Raises `Undecodable`."""
        return self._writer(_id_of(value))[0]

    def decode(self, topic: str, value: bytes | None) -> tuple[str, dict[str, Any]]:
        """The event's name, and its fields as the topic's latest version of it has them. Raises `Undecodable`."""
        schema_id = _id_of(value)
        reading = self._readings.get((topic, schema_id))
        if reading is None:
            reading = self._readings[topic, schema_id] = self._reading(topic, schema_id)
        name, writer, reader = reading
        assert value is not None
        buffer = BytesIO(value)
        buffer.seek(5)
        try:
            return name, fastavro.schemaless_reader(buffer, writer, reader)  # type: ignore[return-value]
        except Exception as error:
            # Bytes from outside can break an Avro reader in any way; whatever it raises, they are not an event.
            raise Undecodable(f"the bytes are no {name}: {error}") from error

    def _reading(self, topic: str, schema_id: int) -> tuple[str, Any, Any]:
        name, writer = self._writer(schema_id)
        try:
            reader = _parsed(self._language.latest(topic, name).raw)
        except LanguageError as error:
            raise Undecodable(str(error)) from error
        # A reader that equals the writer is not given: Avro then need not compare the two field by field.
        return name, writer, None if reader == writer else reader

    def _writer(self, schema_id: int) -> tuple[str, Any]:
        if schema_id not in self._writers:
            text = self._schema_of(schema_id)
            self._writers[schema_id] = _named(text) if text is not None else None
        writer = self._writers[schema_id]
        if writer is None:
            raise Undecodable(f"the registry knows no Avro record with id {schema_id}")
        return writer


def _id_of(value: bytes | None) -> int:
    if value is None or len(value) < 5 or value[0] != 0:
        raise Undecodable("it is not in Confluent wire format")
    schema_id: int = _HEAD.unpack_from(value)[1]
    return schema_id


def _named(text: str) -> tuple[str, Any] | None:
    """The name of an event and its schema. None for what is no Avro record: anybody may register anything."""
    try:
        raw = msgspec.json.decode(text)
        return str(raw["name"]).rpartition(".")[2], _parsed(raw)
    except Exception:
        return None


def _parsed(raw: Any) -> Any:
    """A schema as fastavro wants it; ids stay text, as keys and rows have them."""
    return fastavro.parse_schema(_ids_as_text(raw), _write_hint=False)


def _ids_as_text(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {k: _ids_as_text(v) for k, v in raw.items() if not (k == "logicalType" and v == "uuid")}
    if isinstance(raw, list):
        return [_ids_as_text(item) for item in raw]
    return raw
