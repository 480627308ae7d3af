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
    missing = {scope for needed in after.get("security", []) for scope in needed.get("bearer", [])} - {
        scope for needed in before.get("security", []) for scope in needed.get("bearer", [])
    }
    if missing:
        yield f"{at}: needs the scope {', '.join(sorted(missing))}"
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


def _body(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    was, is_now = before.get("requestBody", {}).get("content", {}), after.get("requestBody", {}).get("content", {})
    if is_now and not was:
        yield f"{at}: needs a body"
    for kind, content in was.items():
        if kind not in is_now:
            yield f"{at}: a body of {kind} is not taken any more"
        else:
            yield from _narrower(f"{at}: body", content["schema"], is_now[kind]["schema"], released, now)


def _narrower(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    """Where `after` refuses what `before` takes."""
    before, after = _resolved(before, released), _resolved(after, now)
    if _types(before, released) - _types(after, now):
        yield f"{at}: {_named(before)} is not taken any more"
        return
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
        if not status.startswith("2"):
            continue
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
    before, after = _resolved(before, released), _resolved(after, now)
    if _types(after, now) - _types(before, released):
        yield f"{at}: is {_named(after)}, was {_named(before)}"
        return
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
    return found


def _types(schema: Json, document: Json) -> set[str]:
    """The JSON types that the schema allows, with their formats."""
    some = schema.get("anyOf")
    if some:
        return {kind for each in some for kind in _types(_resolved(each, document), document)}
    return {f"{schema.get('type', 'anything')} {schema.get('format', '')}".strip()}


def _named(schema: Json) -> str:
    some = schema.get("anyOf", [schema])
    return " or ".join(str(each.get("format") or each.get("type", "anything")) for each in some)
