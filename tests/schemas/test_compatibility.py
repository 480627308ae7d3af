"""What may follow a released version, and what every version keeps to."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from contracts import compatibility
from streams.kit.language import Language

ENUM = {"type": "enum", "name": "Why", "doc": "d", "symbols": ["UNKNOWN", "A"], "default": "UNKNOWN"}
FIXED = {"type": "fixed", "name": "Span", "size": 12, "doc": "d"}
SPAN = {**FIXED, "logicalType": "duration"}
TIME = {"type": "long", "logicalType": "timestamp-millis"}


def field(name: str, kind: Any = "string", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "doc": "d", **more}


TENANT, REASON, AT = field("tenant"), field("reason", ENUM), field("at", TIME)


def check(tmp_path: Path, *versions: list[dict[str, Any]]) -> list[str]:
    """What is found in one event of these versions."""
    (tmp_path / "orders").mkdir()
    for number, fields in enumerate(versions, start=1):
        schema = {"type": "record", "name": "Told", "namespace": "pavane.orders", "doc": "d", "fields": fields}
        (tmp_path / "orders" / f"Told.v{number}.avsc").write_text(json.dumps(schema))
    return [str(finding) for finding in compatibility.check(Language.load(tmp_path))]


def test_the_released_language_is_well_formed_and_goes_together() -> None:
    assert compatibility.check(Language.load()) == []


def test_a_field_with_a_default_may_come_and_go(tmp_path: Path) -> None:
    note = field("note", ["null", "string"], default=None)
    assert check(tmp_path, [TENANT], [TENANT, note], [TENANT]) == []


def test_an_enum_may_grow_and_never_shrinks(tmp_path: Path) -> None:
    grown = field("reason", {**ENUM, "symbols": ["UNKNOWN", "A", "B"]})
    (found,) = check(tmp_path, [TENANT, REASON], [TENANT, grown], [TENANT, REASON])
    assert "Told.v3.avsc: since v2, the enum of Told.reason has lost B" in found


def test_a_new_field_without_default_breaks_new_consumers(tmp_path: Path) -> None:
    (found,) = check(tmp_path, [TENANT], [TENANT, field("note")])
    assert "Told.v2.avsc: a consumer of Told v2 cannot read what a producer of v1 says: the field 'note' is" in found
    assert "Add fields only with a default" in found


def test_a_removed_field_without_default_breaks_old_consumers(tmp_path: Path) -> None:
    (found,) = check(tmp_path, [TENANT, field("note")], [TENANT])
    assert "a consumer of Told v1 cannot read what a producer of v2 says: the field 'note' is missing there" in found


def test_every_pair_of_versions_is_checked_not_only_neighbours(tmp_path: Path) -> None:
    found = check(
        tmp_path,
        [TENANT, field("note", "string")],
        [TENANT],
        [TENANT, field("note", "int", default=0)],
    )
    assert any("consumer of Told v3 cannot read what a producer of v1" in told for told in found)


def test_what_older_records_did_not_say_is_read_by_all_as_the_same(tmp_path: Path) -> None:
    first, second = (field("channel", default=each, doc="The default: a guess.") for each in ("a", "b"))
    (found,) = check(tmp_path, [TENANT], [TENANT, first], [TENANT, second])
    assert "Told.v3.avsc: since v2, the default of Told.channel was 'a' and is 'b'" in found


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (field("n", "int"), field("n", "string"), "field 'n': reader type: string not compatible"),
        (field("n", "int"), field("n", "long"), "field 'n': reader type: int not compatible"),
        (AT, field("at", {**TIME, "logicalType": "timestamp-micros"}), "Told.at meant timestamp-millis and means"),
        (field("n", FIXED), field("n", SPAN), "the field Told.n meant fixed and means duration"),
        (AT, field("at", "long"), "the field Told.at meant timestamp-millis and means long"),
    ],
)
def test_a_field_keeps_its_type_and_meaning(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], told: str
) -> None:
    found = check(tmp_path, [TENANT, before], [TENANT, after])
    assert any(told in each for each in found)


def changed(kind: Any, **changes: Any) -> Any:
    return {**deepcopy(kind), **changes}


def without(kind: Any, key: str) -> Any:
    return {name: value for name, value in kind.items() if name != key}


MONEY = {
    "type": "record",
    "name": "Money",
    "namespace": "pavane",
    "doc": "d",
    "fields": [field("amount_minor", "long"), field("currency")],
}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([field("note")], "names no tenant"),
        ([TENANT, {"name": "n", "type": "string"}], "the field Told.n has no doc"),
        ([TENANT, field("reason", without(ENUM, "default"))], "the enum Why has no default among its symbols"),
        ([TENANT, field("reason", changed(ENUM, default="B"))], "is not an Avro schema"),
        ([TENANT, field("reason", changed(ENUM, doc=""))], "the enum Why has no doc"),
        ([TENANT, field("n", "double")], "Told.n is a double, which is not exact"),
        ([TENANT, field("n", {"type": "array", "items": "float"})], "Told.n is a float"),
        ([TENANT, field("n", ["null", "double"], default=None)], "Told.n is a double"),
        ([TENANT, field("price_minor", "int")], "Told.price_minor is money, but not a long"),
        ([TENANT, field("n", {"type": "bytes", "logicalType": "decimal", "precision": 9})], "Told.n is a decimal"),
        ([TENANT, field("n", ["null", ENUM, MONEY])], "Told.n is a union of Why and Money"),
        ([TENANT, field("n", ["string", {"type": "array", "items": "long"}])], "Told.n is a union of string and array"),
        ([TENANT, field("n", ["null", "string", TIME])], None),
        ([TENANT, field("total", MONEY)], None),
        ([TENANT, field("total", changed(MONEY, fields=[field("amount_minor", "long")]))], "Told.total: Money has"),
        ([TENANT, field("total", changed(MONEY, fields=[field("amount_minor", "int"), field("currency")]))], "long"),
        ([TENANT, field("n", "nothing")], "is not an Avro schema"),
    ],
)
def test_every_version_keeps_the_rules(tmp_path: Path, fields: list[dict[str, Any]], told: str | None) -> None:
    found = check(tmp_path, fields)
    assert (found == []) if told is None else any(told in each for each in found), found
