"""The language is read from its folder, and what is wrong with the folder is told."""

import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.utils import generate_many

from streams.kit.errors import LanguageError
from streams.kit.language import Language


def record(name: str, *fields: dict[str, Any], namespace: str = "pavane.orders") -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": namespace, "doc": "d", "fields": list(fields)}


def field(name: str, kind: Any = "string") -> dict[str, Any]:
    return {"name": name, "type": kind, "doc": "d"}


def write(root: Path, file: str, content: Any) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def test_the_released_language_has_the_topics_and_events_of_the_design() -> None:
    language = Language.load()
    core = {"billing", "inventory", "inventory.requests", "orders", "orders.requests", "shipping"}
    assert core <= set(language.topics)
    assert language.names("orders.requests") == ("CancelOrder", "PlaceOrder", "SetPrice")
    placed = language.latest("orders", "OrderPlaced")
    assert (placed.fullname, placed.subject) == ("pavane.orders.OrderPlaced", "orders-pavane.orders.OrderPlaced")
    assert json.loads(placed.text) == placed.raw


def test_every_version_is_kept_and_the_latest_is_said(tmp_path: Path) -> None:
    for version in range(1, 12):
        write(tmp_path, f"orders/A.v{version}.avsc", record("A", field(f"f{version}")))
    language = Language.load(tmp_path)
    assert [schema.version for schema in language.versions("orders", "A")] == list(range(1, 12))
    assert language.latest("orders", "A").fields == ("f11",)
    assert [schema.version for schema in language] == list(range(1, 12))


def test_the_folder_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "loyalty/PointsEarned.v1.avsc", record("PointsEarned", namespace="pavane.loyalty"))
    monkeypatch.setenv("PAVANE_SCHEMAS", str(tmp_path))
    assert Language.load().topics == ("loyalty",)


@pytest.mark.parametrize("view", [["total"], ["lines", "order_id"], ["tenant", "ship_to", "deadline"], []])
def test_a_view_reads_its_fields_out_of_the_whole_record(view: list[str], tmp_path: Path) -> None:
    writer = Language.load().latest("orders", "OrderPlaced")
    values = next(iter(generate_many(writer.raw, 1)))
    bytes_ = tmp_path / "record"
    with bytes_.open("wb") as file:
        fastavro.schemaless_writer(file, writer.raw, values)
    with bytes_.open("rb") as file:
        read: Any = fastavro.schemaless_reader(file, writer.raw, Language.load().reader("orders", "OrderPlaced", view))
    assert set(read) == set(view)


def test_a_type_defined_in_a_field_left_out_is_defined_where_it_is_used_next(tmp_path: Path) -> None:
    money = record("Money", field("amount_minor", "long"), namespace="pavane")
    of_money = {"type": "array", "items": "pavane.Money"}
    fields = (field("net", money), field("gross", "pavane.Money"), field("parts", of_money), field("alike", of_money))
    write(tmp_path, "orders/A.v1.avsc", record("A", *fields))
    reader = Language.load(tmp_path).reader("orders", "A", ["gross", "alike"])
    gross, alike = reader["fields"]
    assert gross["type"] == money
    assert alike["type"] == of_money
    fastavro.parse_schema(reader)


def test_a_name_without_namespace_is_found_in_that_of_its_record(tmp_path: Path) -> None:
    line = {"type": "record", "name": "Line", "doc": "d", "fields": [field("sku")]}
    write(tmp_path, "orders/A.v1.avsc", record("A", field("first", line), field("last", ["null", "Line"])))
    (last,) = Language.load(tmp_path).reader("orders", "A", ["last"])["fields"]
    assert last["type"] == ["null", {**line, "namespace": "pavane.orders"}]


def test_an_unknown_field_is_told_with_the_file_and_the_fields_there_are() -> None:
    with pytest.raises(LanguageError, match=r"OrderConfirmed\.v1\.avsc.*no field 'x'.*tenant, order_id"):
        Language.load().reader("orders", "OrderConfirmed", ["order_id", "x"])


@pytest.mark.parametrize(
    ("topic", "name", "told"),
    [
        ("ordres", "OrderPlaced", "no topic 'ordres' in the language; topics are billing, inventory"),
        ("orders", "OrderPlace", "topic orders has no event 'OrderPlace'; its events are CancellationRefused"),
    ],
)
def test_an_unknown_event_is_told_with_what_there_is(topic: str, name: str, told: str) -> None:
    with pytest.raises(LanguageError, match=told):
        Language.load().latest(topic, name)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("orders/a.v1.avsc", record("a"), "not named <Name>.v<N>.avsc"),
        ("orders/A.v0.avsc", record("A"), "not named"),
        ("orders/notes.txt", "x", "not named"),
        ("orders/A.v1.avsc", "{", "cannot be read as JSON"),
        ("orders/A.v1.avsc", '"string"', "is not an Avro record"),
        ("orders/A.v1.avsc", record("B"), "names its record pavane.orders.B.*ask for pavane.orders.A"),
        ("orders/A.v1.avsc", record("A", namespace="x"), "names its record x.A"),
        ("orders.requests/A.v1.avsc", record("A", namespace="pavane.orders.requests"), "ask for pavane.orders.A"),
        ("orders/A.v2.avsc", record("A"), "version 1 is missing"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, file: str, content: Any, told: str) -> None:
    write(tmp_path, file, content)
    with pytest.raises(LanguageError, match=told) as error:
        Language.load(tmp_path)
    assert str(tmp_path / file) in str(error.value)


def test_a_folder_without_schemas_is_told(tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match="PAVANE_SCHEMAS"):
        Language.load(tmp_path)
    with pytest.raises(LanguageError, match="no such folder"):
        Language.load(tmp_path / "missing")
