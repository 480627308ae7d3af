"""Events as bytes: Confluent's wire format, consumer views, and writers that are ahead of their readers."""

import json
import struct
from datetime import UTC, datetime
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, get_args, get_origin

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.views import services
from streams.billing.events import PaymentCaptured
from streams.kit.codec import Codec
from streams.kit.errors import LanguageError, Undecodable
from streams.kit.events import Event, Fact, Heard
from streams.kit.language import Language, Schema
from streams.kit.money import Money
from tests.kit.counter import SchemaIds, declared, view
from tests.kit.counter_events import Added

LANGUAGE = Language.load()
ORDER = "0197f7d4-7c5e-7c3a-9d6e-3f2b8a1c4d5e"


async def codec_of(*events: tuple[str, type[Event]], language: Language = LANGUAGE) -> Codec:
    codec = Codec(language, SchemaIds())
    for topic, event in events:
        await codec.prepare(topic, [event])
    return codec


async def test_the_wire_format_is_a_zero_byte_the_id_and_avro() -> None:
    codec = Codec(LANGUAGE, SchemaIds(["other"] * 300))
    await codec.prepare("billing", [PaymentCaptured])
    captured = PaymentCaptured(
        tenant="shop", order_id=ORDER, amount=Money(amount_minor=1234, currency="EUR"), reference="r1"
    )
    value = codec.encode(captured)
    # 300 is the id: the registry held that many others. Avro writes 1234 as zigzag 2468, in two bytes.
    assert value[:5] == b"\x00" + struct.pack(">I", 300)
    assert value[5:] == b"\x08shop" + bytes([72]) + ORDER.encode() + b"\xa4\x13\x06EUR" + b"\x04r1"


async def test_what_is_written_is_what_any_avro_reader_reads() -> None:
    codec = await codec_of(("billing", PaymentCaptured))
    captured = PaymentCaptured(tenant="s", order_id=ORDER, amount=Money(amount_minor=-1, currency="EUR"), reference="é")
    schema = fastavro.parse_schema(LANGUAGE.latest("billing", "PaymentCaptured").raw)
    read: Any = fastavro.schemaless_reader(BytesIO(codec.encode(captured)[5:]), schema, None)
    assert {**read, "order_id": str(read["order_id"])} == msgspec.to_builtins(captured)


async def test_a_value_that_does_not_fit_its_schema_is_told() -> None:
    codec = await codec_of(("billing", PaymentCaptured))
    with pytest.raises(LanguageError, match="PaymentCaptured does not fit its schema"):
        codec.encode(
            PaymentCaptured(tenant="s", order_id=ORDER, amount=Money(amount_minor=2**63, currency="EUR"), reference="r")
        )


async def test_a_schema_that_was_not_registered_is_told_at_start() -> None:
    class Nobody(SchemaIds):
        async def id_of(self, subject: str, schema: str) -> int:
            raise LanguageError(f"{subject}: not registered")

    with pytest.raises(LanguageError, match=r"billing-pavane\.billing\.PaymentCaptured"):
        await Codec(LANGUAGE, Nobody()).prepare("billing", [PaymentCaptured])


# -- views -------------------------------------------------------------------------------------------------------------


def language(*versions: dict[str, Any]) -> Language:
    """The event `Told` on the topic `told`, in these versions of its fields."""
    schemas = []
    for number, fields in enumerate(versions, 1):
        raw = {"type": "record", "name": "Told", "namespace": "pavane.told", "fields": list(fields.values())}
        file = Path("told") / f"Told.v{number}.avsc"
        schemas.append(Schema("told", "Told", number, "pavane.told.Told", raw, json.dumps(raw), file))
    return Language(schemas)


FIRST = {
    "about": {"name": "about", "type": "string"},
    "lines": {
        "name": "lines",
        "type": {
            "type": "array",
            "items": {
                "type": "record",
                "name": "Line",
                "fields": [{"name": "sku", "type": "string"}, {"name": "quantity", "type": "int"}],
            },
        },
    },
    "mood": {
        "name": "mood",
        "type": {"type": "enum", "name": "Mood", "symbols": ["UNKNOWN", "GLAD"], "default": "UNKNOWN"},
    },
}
SECOND = {
    **FIRST,
    "note": {"name": "note", "type": ["null", "string"], "default": None},
    "mood": {
        "name": "mood",
        "type": {"type": "enum", "name": "Mood", "symbols": ["UNKNOWN", "GLAD", "SAD"], "default": "UNKNOWN"},
    },
}
TOLD = {"about": "a", "lines": [{"sku": "lamp", "quantity": 2}], "mood": "GLAD"}


class Line(msgspec.Struct):
    sku: str


async def read(values: dict[str, Any], writer: Language, reader: Language, fields: dict[str, Any]) -> Any:
    """Written in the latest version of `writer`, read by a process that knows `reader` into a view of `fields`."""
    schema = writer.latest("told", "Told")
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema.raw), values)
    codec = Codec(reader, SchemaIds([schema.text]))
    value = struct.pack(">bI", 0, 0) + buffer.getvalue()
    await codec.learn([value])
    told = declared(Heard, "Told", fields, topic="told")
    return codec.decode(value, told, {"at": "now", "about": "who"})


async def test_a_view_reads_only_the_fields_that_it_declares() -> None:
    told = await read(TOLD, language(FIRST), language(FIRST), {"lines": tuple[Line, ...]})
    assert told.lines == (Line("lamp"),)
    assert told.__struct_fields__ == ("lines",)


async def test_a_field_of_the_event_wins_over_what_the_kit_would_give() -> None:
    told = await read(TOLD, language(FIRST), language(FIRST), {"about": str, "at": str})
    assert (told.about, told.at) == ("a", "now")


async def test_a_reader_of_the_old_version_reads_what_the_new_one_writes() -> None:
    values = {**TOLD, "mood": "SAD", "note": "new"}
    told = await read(values, language(FIRST, SECOND), language(FIRST), {"about": str, "mood": str})
    assert (told.about, told.mood) == ("a", "UNKNOWN")


async def test_a_reader_of_the_new_version_reads_what_the_old_one_wrote() -> None:
    told = await read(TOLD, language(FIRST), language(FIRST, SECOND), {"mood": str, "note": str | None})
    assert (told.mood, told.note) == ("GLAD", None)


async def test_a_view_that_asks_for_another_type_than_was_written_is_undecodable() -> None:
    with pytest.raises(Undecodable, match="no Told as Told is read"):
        await read(TOLD, language(FIRST), language(FIRST), {"about": int})


async def test_an_id_that_the_registry_did_not_know_is_asked_for_again_next_time() -> None:
    registry = SchemaIds()
    codec = Codec(LANGUAGE, registry)
    value = struct.pack(">bI", 0, 0) + b"x"
    await codec.learn([value, None, b"", b"\x00\x00", b"garbage that is long enough"])
    with pytest.raises(Undecodable, match="no schema with id 0"):
        codec.name_of(value)
    registry.texts.append(language(FIRST).latest("told", "Told").text)
    await codec.learn([value])
    assert codec.name_of(value) == "Told"


# -- the released language ---------------------------------------------------------------------------------------------

SAID = [(service.name, fact) for service in services() for fact in service.says.values()]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
times = st.integers(0, 4_000_000_000_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC))


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any values of a type that events are made of."""
    if kind in (str, int, datetime):
        return {str: text, int: st.integers(0, 2**31 - 1), datetime: times}[kind]
    if get_origin(kind) is tuple:
        return st.lists(values_of(get_args(kind)[0]), max_size=3).map(tuple)
    if get_args(kind):
        return st.one_of(*map(values_of, get_args(kind)))
    if kind is type(None):
        return st.none()
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    return st.builds(kind, **{each.name: values_of(each.type) for each in msgspec.structs.fields(kind)})


@pytest.mark.parametrize(("topic", "fact"), SAID, ids=lambda each: getattr(each, "__name__", each))
async def test_every_fact_comes_back_as_it_was_said(topic: str, fact: type[Fact]) -> None:
    codec = await codec_of((topic, fact))
    await codec.learn([struct.pack(">bI", 0, 0)])
    everything = view(topic, fact)

    @settings(max_examples=20, deadline=None, database=None)
    @given(values_of(fact))
    def comes_back(said: Fact) -> None:
        heard = codec.decode(codec.encode(said), everything, {})
        assert msgspec.structs.asdict(heard) == msgspec.structs.asdict(said)

    comes_back()


async def test_a_fact_that_was_not_prepared_cannot_be_said() -> None:
    with pytest.raises(KeyError):
        (await codec_of()).encode(Added(counter="a", amount=1))
