"""Is one version of an event well formed, by Avro and by the rules that every event keeps? Offline."""

import re
from collections.abc import Iterator
from typing import Any

import avro.schema
from avro.constants import PRIMITIVE_TYPES
from avro.errors import AvroException

from contracts.defaults import flaw_of_default
from contracts.finding import Finding
from contracts.places import places
from streams.kit.language import Schema

_MONEY = {"amount_minor": "long", "currency": "string"}
_INEXACT = ("float", "double")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
UNKNOWN = "UNKNOWN"
PERSONAL = "personal"
#: A field with one of these words in its name tells of a person.
_OF_A_PERSON = frozenset(
    {
        "address", "asked", "birth", "birthday", "card", "city", "customer", "email", "iban", "mail", "mobile",
        "name", "passport", "phone", "postal", "recipient", "street", "surname",
    }
)


def well_formed(schema: Schema) -> list[Finding]:
    """What one version breaks of the rules that every event keeps."""
    where = str(schema.file)
    try:
        avro.schema.parse(schema.text)
    except AvroException as error:
        return [Finding(where, f"is not an Avro schema: {error}.", "Correct it.")]
    flaws = [*_flaws(schema.raw, schema.name), *_flaws_of_places(schema)]
    findings = [Finding(where, what, remedy) for what, remedy in flaws]
    if "tenant" not in schema.fields:
        findings.append(Finding(where, "names no tenant.", "Every event says which shop it belongs to: add 'tenant'."))
    return findings


def _flaws(node: Any, at: str) -> Iterator[tuple[str, str]]:
    """What is wrong in a type and in all types inside it; `at` names the place, such as OrderPlaced.total."""
    if isinstance(node, list):
        yield from _flaws_of_union(node, at)
        for branch in node:
            yield from _flaws(branch, at)
    elif node in _INEXACT:
        yield f"{at} is a {node}, which is not exact.", "Money is a Money or a long ending in '_minor'; count in longs."
    elif isinstance(node, dict):
        yield from _flaws_of_definition(node, at)
        for field in node.get("fields", ()):
            yield from _flaws_of_field(field, f"{at}.{field['name']}")
        for inner in ("items", "values"):
            yield from _flaws(node.get(inner), at)
        if isinstance(node.get("type"), dict | list) or node.get("type") in _INEXACT:
            yield from _flaws(node["type"], at)


def _flaws_of_union(union: list[Any], at: str) -> Iterator[tuple[str, str]]:
    others = [_named(branch) for branch in union if branch != "null"]
    if len(others) > 1 and not set(others) <= set(PRIMITIVE_TYPES):
        yield (
            f"{at} is a union of {' and '.join(others)}, so nobody could tell what one of them means.",
            "Beside a record, an enum, a fixed, a list or a map there is null alone: give each a field of its own.",
        )


def _named(branch: Any) -> str:
    """A branch of a union: its name, or that of its plain type."""
    kind = branch["type"] if isinstance(branch, dict) else branch
    return str(branch["name"] if kind in ("record", "enum", "fixed") else kind)


def _flaws_of_definition(node: dict[str, Any], at: str) -> Iterator[tuple[str, str]]:
    if node.get("type") in ("record", "enum", "fixed") and not node.get("doc"):
        yield f"{at}: the {node['type']} {node['name']} has no doc.", "Say in one sentence what it means."
    if node.get("type") == "enum" and node.get("default") not in node["symbols"]:
        yield (
            f"{at}: the enum {node['name']} has no default among its symbols, so it can never grow.",
            'Add a symbol UNKNOWN and "default": "UNKNOWN".',
        )
    elif node.get("type") == "enum" and node["default"] != UNKNOWN:
        yield (
            f"{at}: the default of the enum {node['name']} is {node['default']}, so a new symbol reads as that.",
            'Add a symbol UNKNOWN and "default": "UNKNOWN".',
        )
    if node.get("logicalType") == "decimal":
        yield f"{at} is a decimal.", "Money is whole minor units and a currency: use the record pavane.Money."
    if node.get("type") == "record":
        names = {field["name"] for field in node["fields"]}
        for field in node["fields"]:
            for alias in names.intersection(field.get("aliases", ())):
                yield (
                    f"the field {at}.{field['name']} has an alias that is another field, {alias}.",
                    "An alias is a name that nothing else has: take it away, or the other field.",
                )
    if node.get("type") == "record" and node["name"] == "Money":
        fields = {field["name"]: field["type"] for field in node["fields"]}
        if fields != _MONEY:
            yield f"{at}: Money has the fields {fields}.", f"Money is {_MONEY}, everywhere."


def _flaws_of_field(field: dict[str, Any], at: str) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(field["name"]):
        yield f"the field {at} has a name that Avro does not allow.", "Letters, digits and _, and no digit first."
    if not field.get("doc"):
        yield f"the field {at} has no doc.", "Say in one sentence what it means, and in which unit."
    if field["name"].endswith("_minor") and field["type"] != "long":
        yield f"the field {at} is money, but not a long.", "Minor units of money are a long."
    yield from _flaws(field["type"], at)


def _flaws_of_places(schema: Schema) -> Iterator[tuple[str, str]]:
    """Defaults that mislead, and personal data that is not marked: erasing finds it by the mark alone."""
    for place in places(schema.raw).values():
        mark = place.field.get(PERSONAL)
        if mark not in (None, True):
            yield f"the field {place.path} is marked {mark!r}.", 'The mark is "personal": true, or left out.'
        words = set(place.field["name"].lower().split("_"))
        if not place.is_record and mark is None and (told := sorted(words & _OF_A_PERSON)):
            yield (
                f"the field {place.path} tells of a person ({', '.join(told)}) and is not marked.",
                'Mark it with "personal": true, or give it a name that says whose it is.',
            )
        if "default" in place.field and (flaw := flaw_of_default(place)) is not None:
            yield flaw
