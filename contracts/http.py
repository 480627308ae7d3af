"""What a client of `/v1` relies on: a description of the API may only grow.

Compares two OpenAPI documents, of a release and of now, and says in one line each what would break a client that was
written for the release: what it sends must still be taken, and what it reads must still be there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
#: A limit may only be loosened for what clients send: which way that is.
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def breaking(released: Json, now: Json) -> list[str]:
    """What in `now` breaks a client of `released`, each as place: what."""
    return list(_paths(released, now))


def _paths(released: Json, now: Json) -> Iterator[str]:
    for path, methods in released["paths"].items():
        for method, before in methods.items():
            if method not in METHODS:
                continue
            after = now["paths"].get(path, {}).get(method)
            at = f"{method.upper()} {path}"
            if after is None:
                yield f"{at}: is gone"
                continue
            yield from _asked(at, before, after, released, now)
            yield from _answered(at, before, after, released, now)


# -- what clients send ---------------------------------------------------------------------------------------------


def _asked(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    for what, has, needs in (
        ("a token", _tokens(before, released), _tokens(after, now)),
        ("the scope", _scopes(before, released), _scopes(after, now)),
    ):
        if missing := needs - has:
            yield f"{at}: needs {what} {', '.join(sorted(missing))}"
    known = {(each["in"], each["name"].lower()): each for each in before.get("parameters", [])}
    given = {(each["in"], each["name"].lower()): each for each in after.get("parameters", [])}
    for key, parameter in given.items():
        place = f"{at}: {key[0]} {parameter['name']}"
        if key not in known:
            if parameter.get("required"):
                yield f"{place}: is new and required"
            continue
        if parameter.get("required") and not known[key].get("required"):
            yield f"{place}: is required now"
        yield from _narrower(place, known[key]["schema"], parameter["schema"], released, now)
    for key in known.keys() - given.keys():
        yield f"{at}: {key[0]} {known[key]['name']}: is not taken any more"
    yield from _body(at, before, after, released, now)


def _tokens(operation: Json, document: Json) -> set[str]:
    """The ways of saying who one is, one of which is needed; empty where anybody may ask."""
    ways = operation.get("security", document.get("security", []))
    return {way for needed in ways for way in needed} if all(ways) else set()


def _scopes(operation: Json, document: Json) -> set[str]:
    ways = operation.get("security", document.get("security", []))
    return {scope for needed in ways for scope in needed.get("bearer", [])}


def _body(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    was, is_now = before.get("requestBody", {}), after.get("requestBody", {})
    if is_now.get("required") and not was.get("required"):
        yield f"{at}: needs a body"
    for kind, content in was.get("content", {}).items():
        if kind not in is_now.get("content", {}):
            yield f"{at}: a body of {kind} is not taken any more"
        else:
            yield from _narrower(f"{at}: body", content["schema"], is_now["content"][kind]["schema"], released, now)


def _narrower(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    """Where `after` refuses what `before` takes, or takes what was left out for something else."""
    before, after = _resolved(before, released), _resolved(after, now)
    if "default" in before and after.get("default") != before["default"]:
        yield f"{at}: default is {after.get('default')}, was {before['default']}"
    given = _kinds(after, now)
    for kind in _kinds(before, released):
        taken = [list(_stricter(at, kind, each, released, now)) for each in given if _holds(each, kind)]
        yield from min(taken, key=len, default=[f"{at}: {_named(kind)} is not taken any more"])


def _stricter(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    """Of one kind of value."""
    for name in LOWER:
        if name in after and after[name] > before.get(name, float("-inf")):
            yield f"{at}: {name} is {after[name]}, was {before.get(name)}"
    for name in UPPER:
        if name in after and after[name] < before.get(name, float("inf")):
            yield f"{at}: {name} is {after[name]}, was {before.get(name)}"
    if "pattern" in after and after["pattern"] != before.get("pattern"):
        yield f"{at}: pattern is {after['pattern']}, was {before.get('pattern')}"
    if "enum" in after and not set(before.get("enum", ["anything"])) <= set(after["enum"]):
        yield f"{at}: takes fewer values"
    yield from _fewer_fields(at, before, after, released, now)


def _fewer_fields(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    known, given = before.get("properties", {}), after.get("properties", {})
    for name in sorted(set(after.get("required", [])) - set(before.get("required", []))):
        yield f"{at}/{name}: is required now"
    for name, field in known.items():
        if name in given:
            yield from _narrower(f"{at}/{name}", field, given[name], released, now)
        elif after.get("additionalProperties") is False:
            yield f"{at}/{name}: is not taken any more"
    if "items" in before and "items" in after:
        yield from _narrower(f"{at}/0", before["items"], after["items"], released, now)


# -- what clients read ---------------------------------------------------------------------------------------------


def _answered(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    for status, response in before["responses"].items():
        given = after["responses"].get(status)
        if given is None:
            yield f"{at}: {status} is not answered any more"
            continue
        for name in response.get("headers", {}):
            if name not in given.get("headers", {}):
                yield f"{at}: {status}: the header {name} is gone"
        for kind, content in response.get("content", {}).items():
            if kind not in given.get("content", {}):
                yield f"{at}: {status}: {kind} is gone"
            else:
                schema = given["content"][kind]["schema"]
                yield from _less(f"{at}: {status}", content["schema"], schema, released, now)


def _less(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    """Where a reader of `before` does not find in `after` what it reads."""
    known = _kinds(before, released)
    for kind in _kinds(after, now):
        read = [list(_missing(at, each, kind, released, now)) for each in known if _holds(each, kind)]
        was = " or ".join(map(_named, known))
        yield from min(read, key=len, default=[f"{at}: is {_named(kind)}, was {was}"])


def _missing(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    """Of one kind of value."""
    given = after.get("properties", {})
    for name, field in before.get("properties", {}).items():
        if name not in given:
            yield f"{at}/{name}: is gone"
        else:
            if name in before.get("required", []) and name not in after.get("required", []):
                yield f"{at}/{name}: may be missing now"
            yield from _less(f"{at}/{name}", field, given[name], released, now)
    if "items" in before and "items" in after:
        yield from _less(f"{at}/0", before["items"], after["items"], released, now)


# -- schemas -------------------------------------------------------------------------------------------------------


def _resolved(schema: Json, document: Json) -> Json:
    if "$ref" not in schema:
        return schema
    found: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return {**found, **{name: each for name, each in schema.items() if name != "$ref"}}


def _kinds(schema: Json, document: Json) -> list[Json]:
    """The schemas one of which a value has to fit."""
    schema = _resolved(schema, document)
    if "anyOf" not in schema:
        return [schema]
    common = {name: each for name, each in schema.items() if name != "anyOf"}
    return [{**common, **kind} for each in schema["anyOf"] for kind in _kinds(each, document)]


def _holds(wide: Json, narrow: Json) -> bool:
    """By type and format alone: every value of the one is a value of the other."""
    types = wide.get("type"), narrow.get("type")
    return (types[0] in (None, types[1]) or types == ("number", "integer")) and (
        wide.get("format") in (None, narrow.get("format"))
    )


def _named(kind: Json) -> str:
    return str(kind.get("format") or kind.get("type", "anything"))
