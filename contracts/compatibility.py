"""Do all released versions of every event go together, and is each well formed? Offline.

The rule is FULL_TRANSITIVE, by the Avro project's own checker: a consumer of any version must be able to read what a
producer of any other version wrote, as both live side by side during a deploy and the log keeps old records for ever.
`changes.py` adds what Avro would read without complaint, but as something else.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from itertools import combinations, pairwise, permutations
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException

from contracts import changes, released
from contracts.finding import Finding
from contracts.wellformed import well_formed
from streams.kit.language import Language, Schema


def check(language: Language) -> list[Finding]:
    """Everything that is wrong with the language, event by event; empty if nothing is."""
    findings = released.check(language)
    for topic in language.topics:
        for name in language.names(topic):
            versions = language.versions(topic, name)
            for schema in versions:
                findings += well_formed(schema)
            findings += compatible(versions)
    return findings


def compatible(versions: tuple[Schema, ...]) -> list[Finding]:
    """Who cannot read whom among the versions of one event, or would take it for something else."""
    return [*unreadable(versions), *misread(versions)]


def unreadable(versions: tuple[Schema, ...]) -> list[Finding]:
    """What Avro refuses, as a registry does under FULL_TRANSITIVE."""
    try:
        parsed = {schema.version: _parsed(schema) for schema in versions}
    except AvroException:
        return []  # `well_formed` says which version is no Avro schema
    findings = []
    for reader, writer in permutations(versions, 2):
        if told := _refusal(reader.fields, parsed[reader.version], parsed[writer.version]):
            findings.append(_broken(versions[-1], reader, writer, told))
    return findings


def why_unreadable(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> str:
    """Why Avro cannot read by one record's schema what was written in another one; empty if it can."""
    fields = tuple(field["name"] for field in reader["fields"])
    try:
        return _refusal(fields, _made(reader), _made(writer))
    except AvroException as error:
        return f"one of them is no Avro schema: {error}"


def _refusal(fields: tuple[str, ...], reader: avro.schema.Schema, writer: avro.schema.Schema) -> str:
    """What Avro refuses, in words. `fields`: the names of the reader's, in order."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader, writer)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return ""
    causes = zip(result.incompatibilities, sorted(result.locations), sorted(result.messages), strict=False)
    return "; ".join(_cause(fields, kind.value, place, message) for kind, place, message in causes)


def misread(versions: tuple[Schema, ...]) -> list[Finding]:
    """What Avro and the registry let pass, and our own rules do not."""
    try:
        for schema in versions:
            _parsed(schema)
    except AvroException:
        return []
    findings = []
    for older, newer in combinations(versions, 2):
        findings += [_finding(newer, older, *told) for told in changes.misleading(older.raw, newer.raw)]
    for older, newer in pairwise(versions):
        findings += [_finding(newer, older, *told) for told in changes.renamed(older.raw, newer.raw)]
    return findings


def _finding(newer: Schema, older: Schema, what: str, remedy: str) -> Finding:
    return Finding(str(newer.file), f"since v{older.version}, {what}.", remedy)


def _broken(newest: Schema, reader: Schema, writer: Schema, told: str) -> Finding:
    return Finding(
        str(newest.file),
        f"a consumer of {reader.name} v{reader.version} cannot read what a producer of v{writer.version} says: {told}.",
        f"Released versions never change: correct {newest.file.name} before its release. Add fields only with a "
        f"default, remove only fields that have one, and give what means something else another name.",
    )


def _cause(fields: tuple[str, ...], kind: str, place: str, message: str) -> str:
    """Avro's incompatibility with the field's name in place of its number."""
    match = re.match(r"/?/?fields/(\d+)", place)
    field = fields[int(match[1])] if match else None
    match kind:
        case "reader_field_missing_default_value":
            return f"the field {message!r} is missing there and has no default here"
        case "missing_enum_symbols":
            return f"the symbols {message} of {field!r} are unknown here and the enum has no default"
        case _:
            return f"{f'field {field!r}: ' if field else ''}{message} ({kind.replace('_', ' ')})"


def _parsed(schema: Schema) -> avro.schema.Schema:
    return _made(schema.raw)


def _made(raw: Mapping[str, Any]) -> avro.schema.Schema:
    """As Avro's checker wants it. It compares the aliases of named types by full name, but does not complete them."""
    return avro.schema.make_avsc_object(_with_full_aliases(deepcopy(dict(raw)), ""))


def _with_full_aliases(node: Any, namespace: str) -> Any:
    if isinstance(node, list):
        return [_with_full_aliases(each, namespace) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") in ("record", "enum", "fixed"):
        namespace = node.get("namespace", namespace)
        if "aliases" in node:
            node["aliases"] = [alias if "." in alias else f"{namespace}.{alias}" for alias in node["aliases"]]
    for key in ("type", "items", "values"):
        if key in node:
            node[key] = _with_full_aliases(node[key], namespace)
    for field in node.get("fields", ()):
        field["type"] = _with_full_aliases(field["type"], namespace)
    return node
