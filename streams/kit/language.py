"""The public language: every event of `schemas/`, by topic, name and version.

    schemas/<topic>/<Name>.v<N>.avsc      one Avro record a file, in the namespace pavane.<owner of the topic>

A released file never changes; a change is a file with the next number. What is said is said in the latest version;
what is heard is read through `reader`, the latest version reduced to what the consumer reads. This module only reads
the files: whether versions go together is `contracts.compatibility`'s question.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.kit.errors import LanguageError

_FILE = re.compile(r"(?P<name>[A-Z][A-Za-z0-9]*)\.v(?P<version>[1-9][0-9]*)\.avsc")
_NAMED = ("record", "enum", "fixed")


@dataclass(frozen=True)
class Schema:
    """One version of one event. `raw`: the file's JSON, not to be changed. `text`: the same, compact."""

    topic: str
    name: str
    version: int
    fullname: str
    raw: dict[str, Any]
    text: str
    file: Path

    @property
    def subject(self) -> str:
        """Under which the registry knows it: one subject a topic and record (TopicRecordNameStrategy)."""
        return f"{self.topic}-{self.fullname}"

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the record's own fields, in order."""
        return tuple(field["name"] for field in self.raw["fields"])

    def reduced(self, fields: Iterable[str]) -> dict[str, Any]:
        """This record with only `fields`: what a consumer that reads no more gives Avro as its reader schema.

        A type that is defined in a field left out is defined where it is used next. Raises `LanguageError` for a
        field that the record does not have.
        """
        wanted = set(fields)
        if unknown := sorted(wanted - set(self.fields)):
            raise LanguageError(
                f"{self.file}: {self.name} has no field {', '.join(map(repr, unknown))}; its fields are "
                f"{', '.join(self.fields)}. Correct the view, or release a new version that has it."
            )
        definitions = dict(_definitions(self.raw, ""))
        kept = [field for field in self.raw["fields"] if field["name"] in wanted]
        seen = {self.fullname}
        namespace = _namespace(self.raw, "")
        return {
            **self.raw,
            "fields": [{**f, "type": _defined_once(f["type"], namespace, definitions, seen)} for f in kept],
        }


class Language:
    """All events of one folder of schemas."""

    def __init__(self, schemas: Iterable[Schema]) -> None:
        self._versions: dict[str, dict[str, list[Schema]]] = {}
        for schema in sorted(schemas, key=lambda schema: (schema.topic, schema.name, schema.version)):
            versions = self._versions.setdefault(schema.topic, {}).setdefault(schema.name, [])
            versions.append(schema)
            if schema.version != len(versions):
                raise LanguageError(
                    f"{schema.file}: version {len(versions)} is missing. Versions count from 1 without gaps and are "
                    f"never removed: restore {schema.name}.v{len(versions)}.avsc, or give this file that number."
                )

    @classmethod
    def load(cls, root: Path | None = None) -> "Language":
        """Read every file below `root`: by default PAVANE_SCHEMAS, or else the `schemas` folder beside `streams`."""
        if root is None:
            configured = os.environ.get("PAVANE_SCHEMAS")
            root = Path(configured) if configured else Path(__file__).parents[2] / "schemas"
        if not root.is_dir():
            raise LanguageError(f"{root}: no such folder of schemas. Set PAVANE_SCHEMAS to the folder that holds them.")
        schemas = [
            _read(file, topic.name)
            for topic in sorted(root.iterdir())
            if topic.is_dir() and not topic.name.startswith(".")
            for file in sorted(topic.iterdir())
        ]
        if not schemas:
            raise LanguageError(f"{root}: holds no <topic>/<Name>.v<N>.avsc. Set PAVANE_SCHEMAS to one that does.")
        return cls(schemas)

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics, in alphabetical order."""
        return tuple(self._versions)

    def names(self, topic: str) -> tuple[str, ...]:
        """The events of `topic`, in alphabetical order."""
        if topic not in self._versions:
            raise LanguageError(
                f"no topic {topic!r} in the language; topics are {', '.join(self.topics)}. "
                f"A topic is a folder of schemas: add one, or correct the name."
            )
        return tuple(self._versions[topic])

    def versions(self, topic: str, name: str) -> tuple[Schema, ...]:
        """Every version of one event, oldest first."""
        if name not in self.names(topic):
            raise LanguageError(
                f"topic {topic} has no event {name!r}; its events are {', '.join(self.names(topic))}. "
                f"Add {name}.v1.avsc, or correct the name."
            )
        return tuple(self._versions[topic][name])

    def latest(self, topic: str, name: str) -> Schema:
        """The version in which the event is said now."""
        return self.versions(topic, name)[-1]

    def reader(self, topic: str, name: str, fields: Iterable[str]) -> dict[str, Any]:
        """The latest version reduced to `fields` (those read from the event, not `at` and `about`)."""
        return self.latest(topic, name).reduced(fields)

    def __iter__(self) -> Iterator[Schema]:
        """Every version of every event, by topic, name and version: the order in which they may be registered."""
        return (schema for names in self._versions.values() for versions in names.values() for schema in versions)


def _read(file: Path, topic: str) -> Schema:
    match = _FILE.fullmatch(file.name)
    if match is None:
        raise LanguageError(f"{file}: not named <Name>.v<N>.avsc. Rename it, or move it out of the schemas.")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LanguageError(f"{file}: cannot be read as JSON: {error}. Correct it, or restore it from git.") from error
    if not isinstance(raw, dict) or raw.get("type") != "record" or not isinstance(raw.get("fields"), list):
        raise LanguageError(f"{file}: is not an Avro record. An event is one record with a list of fields.")
    owner = topic.partition(".")[0]
    if (raw.get("namespace"), raw.get("name")) != (f"pavane.{owner}", match["name"]):
        raise LanguageError(
            f"{file}: names its record {raw.get('namespace')}.{raw.get('name')}; the file and its folder ask for "
            f"pavane.{owner}.{match['name']}. Make them agree."
        )
    text = json.dumps(raw, separators=(",", ":"), ensure_ascii=False)
    return Schema(topic, match["name"], int(match["version"]), f"pavane.{owner}.{match['name']}", raw, text, file)


def _namespace(node: dict[str, Any], enclosing: str) -> str:
    """The namespace that names inside `node` without one belong to (Avro 1.12, Names)."""
    name: str = node.get("name", "")
    return name.rpartition(".")[0] if "." in name else node.get("namespace", enclosing)


def _fullname(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _definitions(node: Any, namespace: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every named type defined in `node`, by full name."""
    if isinstance(node, list):
        for branch in node:
            yield from _definitions(branch, namespace)
    elif isinstance(node, dict):
        if node.get("type") in _NAMED:
            namespace = _namespace(node, namespace)
            yield _fullname(node["name"], namespace), node
        for field in node.get("fields", ()):
            yield from _definitions(field["type"], namespace)
        for inner in ("items", "values"):
            yield from _definitions(node.get(inner), namespace)
        if isinstance(node.get("type"), dict | list):
            yield from _definitions(node["type"], namespace)


def _defined_once(node: Any, namespace: str, definitions: dict[str, dict[str, Any]], seen: set[str]) -> Any:
    """`node` with each named type defined where it is met first, and only named where it is met again."""
    if isinstance(node, list):
        return [_defined_once(branch, namespace, definitions, seen) for branch in node]
    if isinstance(node, str):
        name = _fullname(node, namespace)
        return _defined_once(definitions[name], namespace, definitions, seen) if name in definitions else node
    if node.get("type") in _NAMED:
        namespace = _namespace(node, namespace)
        name = _fullname(node["name"], namespace)
        if name in seen:
            return name
        seen.add(name)
        node = {**node, "namespace": namespace}
    if "fields" in node:
        inner = [{**f, "type": _defined_once(f["type"], namespace, definitions, seen)} for f in node["fields"]]
        return {**node, "fields": inner}
    for key in ("items", "values"):
        if key in node:
            return {**node, key: _defined_once(node[key], namespace, definitions, seen)}
    return node
