"""Do all released versions of every event go together, and is each well formed? Offline.

The rule is FULL_TRANSITIVE, by the Avro project's own checker: a consumer of any version must be able to read what a
producer of any other version wrote, as both live side by side during a deploy and the log keeps old records for ever.
"""

import re
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException

from contracts.finding import Finding
from streams.kit.language import Language, Schema

_MONEY = {"amount_minor": "long", "currency": "string"}
_INEXACT = ("float", "double")


def check(language: Language) -> list[Finding]:
    """Everything that is wrong with the language, event by event; empty if nothing is."""
    findings: list[Finding] = []
    for topic in language.topics:
        for name in language.names(topic):
            versions = language.versions(topic, name)
            for schema in versions:
                findings += well_formed(schema)
            findings += compatible(versions)
    return findings


# -- versions against versions -----------------------------------------------------------------------------------------


def compatible(versions: tuple[Schema, ...]) -> list[Finding]:
    """Who cannot read whom among the versions of one event."""
    try:
        parsed = {schema.version: avro.schema.parse(schema.text) for schema in versions}
    except AvroException:
        return []  # `well_formed` says which version is no Avro schema
    findings = []
    for reader, writer in permutations(versions, 2):
        checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
        result = checker.get_compatibility(parsed[reader.version], parsed[writer.version])
        if result.compatibility is not SchemaCompatibilityType.compatible:
            causes = zip(result.incompatibilities, sorted(result.locations), sorted(result.messages), strict=False)
            told = "; ".join(_cause(reader, kind.value, place, message) for kind, place, message in causes)
            findings.append(_broken(versions[-1], reader, writer, told))
        findings += [_broken(versions[-1], reader, writer, told) for told in _changed_meaning(reader, writer)]
    return findings


def _broken(newest: Schema, reader: Schema, writer: Schema, told: str) -> Finding:
    return Finding(
        str(newest.file),
        f"a consumer of {reader.name} v{reader.version} cannot read what a producer of v{writer.version} says: {told}.",
        f"Released versions never change: correct {newest.file.name} before its release. Add fields only with a "
        f"default, remove only fields that have one, and give what means something else another name.",
    )


def _cause(reader: Schema, kind: str, place: str, message: str) -> str:
    """Avro's incompatibility with the field's name in place of its number."""
    match = re.match(r"/?/?fields/(\d+)", place)
    field = reader.fields[int(match[1])] if match else None
    match kind:
        case "reader_field_missing_default_value":
            return f"the field {message!r} is missing there and has no default here"
        case "missing_enum_symbols":
            return f"the symbols {message} of {field!r} are unknown here and the enum has no default"
        case _:
            return f"{f'field {field!r}: ' if field else ''}{message} ({kind.replace('_', ' ')})"


def _changed_meaning(reader: Schema, writer: Schema) -> Iterator[str]:
    """What Avro reads without complaint, but as something else: a long that was milliseconds and is microseconds."""
    if reader.version > writer.version:
        return
    other = {field["name"]: field["type"] for field in writer.raw["fields"]}
    for field in reader.raw["fields"]:
        mine, theirs = _logical(field["type"]), _logical(other.get(field["name"], field["type"]))
        if mine != theirs:
            yield f"the field {field['name']!r} means {mine or 'no logical type'} here and {theirs or 'none'} there"


def _logical(node: Any) -> str | None:
    return node.get("logicalType") if isinstance(node, dict) else None


# -- one version by itself ---------------------------------------------------------------------------------------------


def well_formed(schema: Schema) -> list[Finding]:
    """What one version breaks of the rules that every event keeps."""
    where = str(schema.file)
    try:
        avro.schema.parse(schema.text)
    except AvroException as error:
        return [Finding(where, f"is not an Avro schema: {error}.", "Correct it.")]
    findings = [Finding(where, what, remedy) for what, remedy in _flaws(schema.raw, schema.name)]
    if "tenant" not in schema.fields:
        findings.append(Finding(where, "names no tenant.", "Every event says which shop it belongs to: add 'tenant'."))
    return findings


def _flaws(node: Any, at: str) -> Iterator[tuple[str, str]]:
    """What is wrong in a type and in all types inside it; `at` names the place, such as OrderPlaced.total."""
    if isinstance(node, list):
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


def _flaws_of_definition(node: dict[str, Any], at: str) -> Iterator[tuple[str, str]]:
    if node.get("type") in ("record", "enum", "fixed") and not node.get("doc"):
        yield f"{at}: the {node['type']} {node['name']} has no doc.", "Say in one sentence what it means."
    if node.get("type") == "enum" and node.get("default") not in node["symbols"]:
        yield (
            f"{at}: the enum {node['name']} has no default among its symbols, so it can never grow.",
            'Add a symbol UNKNOWN and "default": "UNKNOWN".',
        )
    if node.get("logicalType") == "decimal":
        yield f"{at} is a decimal.", "Money is whole minor units and a currency: use the record pavane.Money."
    if node.get("type") == "record" and node["name"] == "Money":
        fields = {field["name"]: field["type"] for field in node["fields"]}
        if fields != _MONEY:
            yield f"{at}: Money has the fields {fields}.", f"Money is {_MONEY}, everywhere."


def _flaws_of_field(field: dict[str, Any], at: str) -> Iterator[tuple[str, str]]:
    if not field.get("doc"):
        yield f"the field {at} has no doc.", "Say in one sentence what it means, and in which unit."
    if field["name"].endswith("_minor") and field["type"] != "long":
        yield f"the field {at} is money, but not a long.", "Minor units of money are a long."
    yield from _flaws(field["type"], at)
