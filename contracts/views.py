"""Is what services declare in Python what the schemas say?

A consumer's view may leave fields out, but may not name one that the newest version does not have, nor read it as
another type. What a service says must be the newest version, field by field, since that is what is written.
"""

import importlib
import pkgutil
import types
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import streams
from contracts.finding import Finding
from streams.kit.codec import GIVEN_BY_THE_KIT
from streams.kit.errors import LanguageError
from streams.kit.events import Event, Value
from streams.kit.language import Language, Schema
from streams.kit.service import Service

_PRIMITIVES = {"string": str, "int": int, "long": int, "boolean": bool, "bytes": bytes, "null": type(None)}


def services() -> Iterator[Service]:
    """Every service: each folder of `streams` whose package has a `service`."""
    for module in pkgutil.iter_modules(streams.__path__):
        if module.ispkg and module.name != "kit":
            service = getattr(importlib.import_module(f"streams.{module.name}"), "service", None)
            if isinstance(service, Service):
                yield service


def check(language: Language, checked: Iterable[Service] | None = None) -> list[Finding]:
    """Everything in which services (by default all) and schemas differ; empty if nothing does."""
    findings: list[Finding] = []
    for service in services() if checked is None else checked:
        for view in service.views:
            findings += check_event(language, service, view, view.topic, reads=True)
        for fact in service.says.values():
            findings += check_event(language, service, fact, service.name, reads=False)
    return findings


def check_event(language: Language, service: Service, event: type[Event], topic: str, *, reads: bool) -> list[Finding]:
    """One event as a service declares it. `reads`: it is a view; otherwise the service says it."""
    where = f"{service.name}: {event.__module__}.{event.__name__}"
    try:
        schema = language.latest(topic, event.__name__)
    except LanguageError as error:
        return [Finding(where, f"{error}", "")]
    given = GIVEN_BY_THE_KIT.difference(schema.fields) if reads else ()
    hints = {name: hint for name, hint in _fields(event).items() if name not in given}
    verb = "reads" if reads else "says"
    return [
        Finding(where, f"{verb} {what}.", f"{schema.file.name} is the contract: make the class agree with it.")
        for what in _Fit(schema, exact=not reads).record(hints, schema.raw, event.__name__)
    ]


class _Fit:
    """Compares Python types with Avro types. `exact`: all fields must be there; otherwise some may be left out."""

    def __init__(self, schema: Schema, *, exact: bool) -> None:
        self._exact = exact
        self._named: dict[str, dict[str, Any]] = {}
        self._learn(schema.raw, "")

    def record(self, hints: dict[str, Any], record: dict[str, Any], at: str) -> Iterator[str]:
        fields = {field["name"]: field["type"] for field in record["fields"]}
        for name, hint in hints.items():
            if name not in fields:
                yield f"{at}.{name}, which is not a field (fields: {', '.join(fields)})"
            else:
                yield from self._type(hint, fields[name], f"{at}.{name}")
        if self._exact:
            yield from (f"{at} without {name}" for name in fields if name not in hints)

    def _type(self, hint: Any, avro: Any, at: str) -> Iterator[str]:
        avro = self._named.get(avro, avro) if isinstance(avro, str) else avro
        name = avro["type"] if isinstance(avro, dict) else avro
        if isinstance(avro, list):
            yield from self._union(hint, avro, at)
        elif name == "array":
            yield from self._array(hint, avro, at)
        elif name == "record":
            if isinstance(hint, type) and issubclass(hint, Value):
                yield from self.record(_fields(hint), avro, at)
            else:
                yield f"{at} as {_told(hint)}, but it is a record {avro['name']}"
        elif name == "map":
            yield f"{at} as {_told(hint)}, but it is a map, which no class holds: an array of records says as much"
        elif name == "enum":
            yield from self._enum(hint, avro, at)
        elif isinstance(avro, dict) and avro.get("logicalType", "").startswith("timestamp"):
            if hint is not datetime:
                yield f"{at} as {_told(hint)}, but it is a time"
        elif hint is not _PRIMITIVES.get(name):
            yield f"{at} as {_told(hint)}, but it is {name}"

    def _union(self, hint: Any, avro: list[Any], at: str) -> Iterator[str]:
        branches = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        unread = [branch for branch in avro if all([*self._type(each, branch, at)] for each in branches)]
        yield from (f"{at} as {_told(hint)}, but it may also be {branch}" for branch in unread)

    def _array(self, hint: Any, avro: dict[str, Any], at: str) -> Iterator[str]:
        arguments = get_args(hint)
        if get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
            yield from self._type(arguments[0], avro["items"], f"{at}[]")
        else:
            yield f"{at} as {_told(hint)}, but it is an array: read it as tuple[X, ...]"

    def _enum(self, hint: Any, avro: dict[str, Any], at: str) -> Iterator[str]:
        if hint is str:
            return
        if not (isinstance(hint, type) and issubclass(hint, Enum)):
            yield f"{at} as {_told(hint)}, but it is an enum"
            return
        mine, theirs = {member.value for member in hint}, set(avro["symbols"])
        if not self._exact and (missing := sorted(theirs - mine)):
            yield f"{at} as {hint.__name__}, which lacks {', '.join(missing)}"
        if self._exact and (foreign := sorted(mine - theirs)):
            yield f"{at} as {hint.__name__}, of which the schema lacks {', '.join(foreign)}"

    def _learn(self, node: Any, namespace: str) -> None:
        """Types are defined once and named later, so remember them by both names."""
        if isinstance(node, list):
            for branch in node:
                self._learn(branch, namespace)
        elif isinstance(node, dict):
            if "name" in node and node.get("type") in ("record", "enum", "fixed"):
                namespace = node.get("namespace", namespace)
                self._named[node["name"]] = self._named[f"{namespace}.{node['name']}"] = node
            for field in node.get("fields", ()):
                self._learn(field["type"], namespace)
            self._learn(node.get("items"), namespace)


def _fields(struct: type[Value]) -> dict[str, Any]:
    hints = get_type_hints(struct)
    return {name: hints[name] for name in struct.__struct_fields__}


def _told(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
