"""The codec on a real registry: ids are found there, schemas come from there, and its absence is waited for."""

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts.registry import push
from infra.stack import Stack
from streams.kit import registry
from streams.kit.codec import Codec
from streams.kit.errors import LanguageError, RegistryAway, Undecodable
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry
from tests.kit.counter import view
from tests.kit.counter_events import Told

FIELDS = [{"name": "counter", "type": "string", "doc": "d"}, {"name": "amount", "type": "long", "doc": "d"}]
NOTE = {"name": "note", "type": ["null", "string"], "default": None, "doc": "d"}


@pytest.fixture
def url(stack: Stack) -> str:
    return stack.addresses.registry_url


def language(folder: Path, topic: str, *versions: list[dict[str, Any]]) -> Language:
    """The event `Told` on that topic, in these versions."""
    for number, fields in enumerate(versions, 1):
        schema = {"type": "record", "name": "Told", "namespace": f"pavane.{topic}", "doc": "d", "fields": fields}
        file = folder / topic / f"Told.v{number}.avsc"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(schema))
    return Language.load(folder)


async def test_what_one_process_says_another_reads_by_the_id_in_the_record(
    url: str, tmp_path: Path, new_name: str
) -> None:
    old = language(tmp_path, new_name, FIELDS)
    push(url, old)
    speaker = Codec(old, ConfluentRegistry(url))
    await speaker.prepare(new_name, [Told])
    value = speaker.encode(Told(counter="a", amount=5))

    new = language(tmp_path, new_name, FIELDS, [*FIELDS, NOTE])
    push(url, new)
    listener = Codec(new, ConfluentRegistry(url))
    await listener.learn([value])
    heard: Any = listener.decode(value, view(new_name, Told, note=str | None), {})
    assert (heard.counter, heard.amount, heard.note) == ("a", 5, None)


async def test_an_unregistered_schema_is_told_with_what_to_do(url: str, tmp_path: Path, new_name: str) -> None:
    codec = Codec(language(tmp_path, new_name, FIELDS), ConfluentRegistry(url))
    with pytest.raises(LanguageError, match=f"{new_name}-pavane.{new_name}.Told.*'pavane schemas push'"):
        await codec.prepare(new_name, [Told])


async def test_an_id_that_nobody_was_given_stays_unknown(url: str, tmp_path: Path, new_name: str) -> None:
    codec = Codec(language(tmp_path, new_name, FIELDS), ConfluentRegistry(url))
    value = b"\x00\x7f\xff\xff\xff\x02a"
    await codec.learn([value])
    with pytest.raises(Undecodable, match="no schema with id 2147483647"):
        codec.name_of(value)


async def test_an_absent_registry_is_waited_for_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PATIENCE_SECONDS", 0.5)
    with capture_logs() as lines, pytest.raises(RegistryAway, match=r"at http://127\.0\.0\.1:1 does not answer"):
        await ConfluentRegistry("http://127.0.0.1:1").schema_of(1)
    assert "registry_away" in [line["event"] for line in lines]


async def test_what_was_released_and_is_expected_can_be_read_without_asking_again(
    url: str, tmp_path: Path, new_name: str
) -> None:
    old = language(tmp_path, new_name, FIELDS)
    push(url, old)
    speaker = Codec(old, ConfluentRegistry(url))
    await speaker.prepare(new_name, [Told])
    listener = Codec(language(tmp_path, new_name, FIELDS, [*FIELDS, NOTE]), ConfluentRegistry(url))
    await listener.expect([new_name])
    assert listener.name_of(speaker.encode(Told(counter="a", amount=5))) == "Told"
