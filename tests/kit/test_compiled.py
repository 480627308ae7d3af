"""Compiled Avro says and reads the same as fastavro, and ends on any bytes."""

import struct
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kit.compiled import HEAD_BYTES, reader, writer
from streams.kit.language import Language
from streams.kit.run import find, services
from streams.kit.writers import parsed

HEAD = bytes(HEAD_BYTES)
LANGUAGE = Language.load()
LONGS = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(-(10**12), 4 * 10**12).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
SYMBOLS = ["RED", "GREEN", "BLUE"]
LEAVES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "string": ("string", st.text(max_size=100)),
    "long": ("long", LONGS),
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "boolean": ("boolean", st.booleans()),
    "double": ("double", st.floats(allow_nan=False)),
    "time": ({"type": "long", "logicalType": "timestamp-millis"}, TIMES),
    "optional": (["null", "string"], st.none() | st.text()),
}


def record(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": of} for field, of in fields.items()]}


@st.composite
def written(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A schema with leaves, an enum, a record and an array of records within; and a value of it."""
    inner = draw(st.lists(st.sampled_from(sorted(LEAVES)), min_size=1, max_size=3, unique=True))
    outer = draw(st.lists(st.sampled_from(sorted(LEAVES)), max_size=6, unique=True))
    one = st.fixed_dictionaries({name: LEAVES[name][1] for name in inner})
    line = record("Line", {name: LEAVES[name][0] for name in inner})
    fields = {f"x_{name}": LEAVES[name] for name in outer} | {
        "colour": ({"type": "enum", "name": "Colour", "symbols": SYMBOLS}, st.sampled_from(SYMBOLS)),
        "first": (line, one),
        "lines": ({"type": "array", "items": "Line"}, st.lists(one, max_size=70)),
        "tags": ({"type": "array", "items": "string"}, st.lists(st.text(max_size=3), max_size=3)),
    }
    schema = record("Event", {name: of for name, (of, _) in fields.items()})
    return parsed(schema), draw(st.fixed_dictionaries({name: values for name, (_, values) in fields.items()}))


def by_fastavro(schema: Any, value: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema, value)
    return buffer.getvalue()


def compiled_bytes(schema: Any, value: dict[str, Any]) -> bytes:
    write = writer(schema)
    assert write is not None
    out = bytearray()
    write(value, out)
    return bytes(out)


def wanted_of(schema: Any, names: list[str]) -> Any:
    """The schema reduced to some fields, and one more that has a default."""
    fields = [field for field in schema["fields"] if field["name"] in names]
    types = {field["name"]: field["type"] for field in schema["fields"]}
    if "lines" in names and "first" not in names:
        lines = {"type": "array", "items": types["first"]}
        fields = [{**field, "type": lines} if field["name"] == "lines" else field for field in fields]
    return parsed({**schema, "fields": [*fields, {"name": "later", "type": "string", "default": "unset"}]})


@given(written())
def test_what_is_written_are_the_bytes_that_fastavro_writes(case: tuple[Any, dict[str, Any]]) -> None:
    schema, value = case
    assert compiled_bytes(schema, value) == by_fastavro(schema, value)


@given(written(), st.data())
def test_what_is_read_is_what_fastavro_reads_of_the_fields_that_are_wanted(
    case: tuple[Any, dict[str, Any]], data: st.DataObject
) -> None:
    schema, value = case
    wanted = wanted_of(schema, data.draw(st.lists(st.sampled_from(sorted(value)), unique=True)))
    raw = by_fastavro(schema, value)
    read = reader(schema, wanted)
    assert read is not None
    assert read(HEAD + raw) == fastavro.schemaless_reader(BytesIO(raw), schema, wanted)


@given(written(), st.data())
def test_bytes_that_end_too_early_are_refused(case: tuple[Any, dict[str, Any]], data: st.DataObject) -> None:
    schema, value = case
    raw = by_fastavro(schema, value)
    read = reader(schema, schema)
    assert read is not None
    with pytest.raises((ValueError, IndexError, struct.error)):
        read(HEAD + raw[: data.draw(st.integers(0, len(raw) - 1))])


@given(written(), st.binary(max_size=200))
def test_no_bytes_keep_a_reader_from_ending(case: tuple[Any, dict[str, Any]], raw: bytes) -> None:
    read = reader(case[0], case[0])
    assert read is not None
    try:
        read(HEAD + raw)
    except Exception as error:
        assert not isinstance(error, MemoryError | RecursionError | NameError | SyntaxError)


@pytest.mark.parametrize(
    ("value", "error"),
    [({"n": 2**31}, OverflowError), ({"n": "1"}, TypeError), ({"n": None}, TypeError), ({}, KeyError)],
)
def test_a_value_that_does_not_fit_is_refused(value: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        compiled_bytes(parsed(record("E", {"n": "int"})), value)


def test_a_symbol_that_the_reader_does_not_know_is_left_to_the_general_reader() -> None:
    colour = {"type": "enum", "name": "Colour", "symbols": SYMBOLS}
    old, new = (record("E", {"c": {**colour, "symbols": SYMBOLS[:n]}}) for n in (2, 3))
    assert reader(parsed(new), parsed(old)) is None
    assert reader(parsed(old), parsed(new)) is not None


def test_another_type_is_left_to_the_general_reader() -> None:
    assert reader(parsed(record("E", {"n": "string"})), parsed(record("E", {"n": "long"}))) is None


def test_a_field_that_has_a_new_name_is_found_by_its_old_one() -> None:
    new = {"type": "record", "name": "E", "fields": [{"name": "b", "aliases": ["a"], "type": "string"}]}
    old = parsed(record("E", {"a": "string"}))
    read = reader(old, parsed(new))
    assert read is not None
    assert read(HEAD + by_fastavro(old, {"a": "x"})) == {"b": "x"}


def test_every_schema_of_the_language_is_covered() -> None:
    assert [each.subject for each in LANGUAGE if writer(parsed(each.raw)) is None] == []


@pytest.mark.parametrize("service", services())
def test_every_view_of_a_service_is_covered_for_all_versions(service: str) -> None:
    for view in find(service).views:
        own = LANGUAGE.latest(view.topic, view.__name__).fields
        fields = [name for name in view.__struct_fields__ if name in own or name not in ("at", "about")]
        wanted = parsed(LANGUAGE.reader(view.topic, view.__name__, fields))
        for version in LANGUAGE.versions(view.topic, view.__name__):
            assert reader(parsed(version.raw), wanted) is not None, (view, version.version)
