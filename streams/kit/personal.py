"""Which texts of an event are personal: its schema marks them, `{"name": "street", "personal": true, ...}`. Pure."""

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import msgspec

from streams.kit.errors import LanguageError
from streams.kit.events import Heard, Request, Value
from streams.kit.keystore import Person
from streams.kit.language import Language, Schema

Path = tuple[str, ...]
E = TypeVar("E", bound=Value)


class Marks(NamedTuple):
    """Where an event holds personal text. `person`: the field with the customer's number, one of `paths`."""

    person: str
    paths: tuple[Path, ...]

    @classmethod
    def of(cls, language: Language, event: type[Request | Heard]) -> "Marks":
        """Those of the fields that the class has. Raises `LanguageError` where one cannot be protected."""
        schema = language.latest(event.topic, event.__name__)
        paths = tuple(path for path in personal_paths(schema) if path[0] in event.__struct_fields__)
        if (event.person,) not in paths or "tenant" not in event.__struct_fields__:
            raise LanguageError(
                f"{event.__module__}.{event.__name__}: person={event.person!r} is no field that {schema.file} marks as "
                f"personal, or the class has no tenant: whose personal data it is must be known to protect it"
            )
        return cls(event.person, paths)

    def person_of(self, event: Value) -> Person:
        """Whose data it is."""
        return Person(getattr(event, "tenant"), getattr(event, self.person))  # noqa: B009

    def texts(self, event: Value) -> Iterator[str]:
        """All personal texts of the event."""
        return (str(reduce(getattr, path, event)) for path in self.paths)

    def changed(self, event: E, change: Callable[[str, str], str]) -> E:
        """The event with every personal text replaced by what `change` makes of the field's name and the text."""
        return replaced(event, self.paths, change)


def replaced(value: E, paths: tuple[Path, ...], change: Callable[[str, str], str]) -> E:
    """`value` with the texts at these paths changed; what lies beside them is the same object."""
    changes: dict[str, Any] = {}
    for name, *inner in paths:
        before = changes.get(name, getattr(value, name))
        changes[name] = replaced(before, (tuple(inner),), change) if inner else change(name, before)
    return msgspec.structs.replace(value, **changes)


def personal_paths(schema: Schema) -> tuple[Path, ...]:
    """The path of every field that the schema marks. Raises `LanguageError` for one that is no text of its own."""
    return tuple(_marked(schema.raw, (), schema, dict(_records(schema.raw))))


def _marked(record: Mapping[str, Any], at: Path, schema: Schema, records: Mapping[str, Any]) -> Iterator[Path]:
    for field in record["fields"]:
        path = (*at, field["name"])
        kind = field["type"]
        if field.get("personal"):
            if kind != "string":
                raise LanguageError(f"{schema.file}: {'.'.join(path)} is personal, and only a string can be protected")
            yield path
        elif isinstance(kind, str) and kind in records:
            yield from _marked(records[kind], path, schema, records)
        elif isinstance(kind, dict) and kind.get("type") == "record":
            yield from _marked(kind, path, schema, records)
        elif any(field.get("personal") for _, inner in _records(kind) for field in inner["fields"]):
            raise LanguageError(f"{schema.file}: {'.'.join(path)} is a list or a choice with personal text inside")


def _records(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record defined in `node`, by the names by which it may be meant."""
    if isinstance(node, list):
        for branch in node:
            yield from _records(branch)
    elif isinstance(node, dict):
        if node.get("type") == "record":
            yield node["name"], node
            yield f"{node.get('namespace', '')}.{node['name']}", node
        for inner in (*(field["type"] for field in node.get("fields", ())), node.get("items"), node.get("values")):
            yield from _records(inner)
