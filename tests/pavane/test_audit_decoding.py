"""The audit reads what was written in any version as the latest one."""

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from pavane.audit.decoding import Decoder
from streams.kit.errors import Undecodable
from streams.kit.language import Language, Schema

OLD = [{"name": "order_id", "type": {"type": "string", "logicalType": "uuid"}}]
NEW = [*OLD, {"name": "note", "type": "string", "default": "none"}]
ORDER = "11111111-1111-4111-8111-111111111111"


def schema(version: int, fields: list[dict[str, Any]]) -> Schema:
    raw = {"type": "record", "name": "Told", "namespace": "pavane.told", "fields": fields}
    return Schema("told", "Told", version, "pavane.told.Told", raw, json.dumps(raw), Path("Told.avsc"))


VERSIONS = [schema(1, OLD), schema(2, NEW)]


@pytest.fixture
def decoder() -> Decoder:
    texts = {each.version: each.text for each in VERSIONS}
    return Decoder(Language(VERSIONS), texts.get)


def written(version: int, **fields: str) -> bytes:
    buffer = BytesIO()
    buffer.write(struct.pack(">bI", 0, version))
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(VERSIONS[version - 1].raw), fields)
    return buffer.getvalue()


def test_an_older_version_is_read_as_the_latest(decoder: Decoder):
    assert decoder.decode("told", written(1, order_id=ORDER)) == ("Told", {"order_id": ORDER, "note": "none"})


def test_the_latest_version_is_read_as_it_is_and_ids_stay_text(decoder: Decoder):
    event = decoder.decode("told", written(2, order_id=ORDER, note="n"))

    assert event == ("Told", {"order_id": ORDER, "note": "n"})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "not in Confluent wire format"),
        (b"\1", "not in Confluent wire format"),
        (b"\0\0\0\0\x09x", "the registry knows no Avro record with id 9"),
        (b"\0\0\0\0\x01\xff", "the bytes are no Told"),
    ],
)
def test_what_is_no_event_says_why(decoder: Decoder, value: bytes | None, words: str):
    with pytest.raises(Undecodable, match=words):
        decoder.decode("told", value)


def test_an_event_that_the_topic_does_not_have_is_not_read(decoder: Decoder):
    with pytest.raises(Undecodable, match="no topic 'elsewhere'"):
        decoder.decode("elsewhere", written(1, order_id=ORDER))
