"""Schemas of JSON as an OpenAPI document has them: each as the kinds of values that it takes, without references."""

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]
#: What refuses no value.
SAYS_NOTHING = ("title", "description", "example", "examples", "deprecated", "readOnly", "writeOnly")


def resolved(schema: Json, document: Json) -> Json:
    """What it refers to, with what it says itself."""
    if "$ref" not in schema:
        return schema
    found: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return {**found, **{name: each for name, each in schema.items() if name != "$ref"}}


def kinds(schema: Json, document: Json) -> list[Json]:
    """The schemas one of which a value has to fit. Of `oneOf` not more than one: which, stays in it to be compared."""
    schema = resolved(schema, document)
    found: list[Json] = [{name: each for name, each in schema.items() if name not in ("anyOf", "allOf")}]
    if isinstance(types := schema.get("type"), list):
        found = [{**found[0], "type": each} for each in types]
    for part in schema.get("allOf", ()):
        found = _both(found, kinds(part, document))
    for name in ("anyOf", "oneOf"):
        if name in schema:
            found = _both(found, [kind for each in schema[name] for kind in kinds(each, document)])
    return found


def _both(some: Sequence[Json], others: Sequence[Json]) -> list[Json]:
    """A value has to fit one of these and one of those."""
    return [_merged(one, other) for one in some for other in others]


def _merged(one: Json, other: Json) -> Json:
    """A value has to fit both. What says different things of it in the two stays apart, to be compared as it is."""
    both = {**one, **other}
    for name in sorted((one.keys() & other.keys()) - set(SAYS_NOTHING)):
        was, more = one[name], other[name]
        if name == "required":
            both[name] = sorted({*was, *more})
        elif name == "properties":
            twice = {each: {"allOf": [was[each], more[each]]} for each in was.keys() & more.keys()}
            both[name] = {**was, **more, **twice}
        elif was != more:
            both["allOf"] = [*one.get("allOf", ()), *other.get("allOf", ()), {name: was}, {name: more}]
    return both


def whole(node: Any, document: Json, within: tuple[str, ...] = ()) -> Any:
    """A part of the document with what it refers to in place of references, but for those to what it stands in."""
    if isinstance(node, list):
        return [whole(each, document, within) for each in node]
    if not isinstance(node, Mapping):
        return node
    if (name := node.get("$ref")) is not None and name not in within:
        return whole(resolved(node, document), document, (*within, name))
    return {key: whole(each, document, within) for key, each in node.items()}


def holds(wide: Json, narrow: Json) -> bool:
    """By type and format alone: every value of the one is a value of the other."""
    types = wide.get("type"), narrow.get("type")
    return (types[0] in (None, types[1]) or types == ("number", "integer")) and (
        wide.get("format") in (None, narrow.get("format"))
    )


def named(kind: Json) -> str:
    """The kind in a word."""
    return str(kind.get("format") or kind.get("type", "anything"))
