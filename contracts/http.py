"""What a client of `/v1` relies on: a description of the API may only grow.

Compares two OpenAPI documents, of a release and of now, and says in one line each what would break a client that was
written for the release: what it sends must still be taken, and what it reads must still be there. A keyword that is not
known here may refuse anything, so that it may not come, nor change, in what is sent.
"""

from collections.abc import Iterator, Sequence
from math import ceil, floor, inf
from typing import Any

from contracts.json_schemas import SAYS_NOTHING, Json, holds, kinds, named, resolved, whole

METHODS = ("get", "post", "put", "patch", "delete")
#: A limit may only be loosened for what clients send: which way that is.
LOWER = ("minLength", "minItems", "minProperties")
UPPER = ("maxLength", "maxItems", "maxProperties")
#: Two names of one limit each, and which way it grows stricter.
RANGES = ((("minimum", "exclusiveMinimum"), 1), (("maximum", "exclusiveMaximum"), -1))
#: What is compared by its sense, or refuses no value. Anything else may stay as it is, or go.
COMPARED = (
    "type", "format", "default", "pattern", "enum", "const", "properties", "required", "additionalProperties", "items",
)  # fmt: skip
KNOWN = frozenset({*SAYS_NOTHING, *COMPARED, *LOWER, *UPPER, *(name for names, _ in RANGES for name in names)})


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
    before, after = resolved(before, released), resolved(after, now)
    if "default" in before and after.get("default") != before["default"]:
        yield f"{at}: default is {after.get('default')}, was {before['default']}"
    given = kinds(after, now)
    for kind in kinds(before, released):
        taken = [list(_stricter(at, kind, each, released, now)) for each in given if holds(each, kind)]
        yield from min(taken, key=len, default=[f"{at}: {named(kind)} is not taken any more"])


def _stricter(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    """Of one kind of value."""
    for name in LOWER:
        if name in after and after[name] > before.get(name, -inf):
            yield f"{at}: {name} is {after[name]}, was {before.get(name)}"
    for name in UPPER:
        if name in after and after[name] < before.get(name, inf):
            yield f"{at}: {name} is {after[name]}, was {before.get(name)}"
    for names, way in RANGES:
        is_whole = before.get("type") == "integer"
        if _end(after, names, way, is_whole) > _end(before, names, way, is_whole):
            yield f"{at}: {_told(after, names)}, was {_told(before, names)}"
    for name in sorted(after.keys() - KNOWN):
        if name not in before or whole(after[name], now) != whole(before[name], released):
            yield f"{at}: {name} is {after[name]}, was {before.get(name)}: nobody can tell here what that refuses"
    if "pattern" in after and after["pattern"] != before.get("pattern"):
        yield f"{at}: pattern is {after['pattern']}, was {before.get('pattern')}"
    values, known = _values(after), _values(before)
    if values is not None and (known is None or any(value not in values for value in known)):
        yield f"{at}: takes fewer values"
    yield from _fewer_fields(at, before, after, released, now)


def _end(schema: Json, names: Sequence[str], way: int, is_whole: bool) -> tuple[float, bool]:
    """Where the numbers begin that it takes, seen from outside; the more, the stricter. True: that one is not taken."""
    ends = [(-inf, False)]
    for name in names:
        if name in schema:
            end, is_open = way * schema[name], name.startswith("exclusive")
            # Above 0 and from 1 are the same for whole numbers.
            ends.append((floor(end) + 1 if is_open else ceil(end), False) if is_whole else (end, is_open))
    return max(ends)


def _told(schema: Json, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {schema[name]}" for name in names if name in schema) or "without that limit"


def _values(schema: Json) -> list[Any] | None:
    """The only values that it takes; None if it names none."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _fewer_fields(at: str, before: Json, after: Json, released: Json, now: Json) -> Iterator[str]:
    known, given = before.get("properties", {}), after.get("properties", {})
    for name in sorted(set(after.get("required", [])) - set(before.get("required", []))):
        yield f"{at}/{name}: is required now"
    for name, field in known.items():
        if name in given:
            yield from _narrower(f"{at}/{name}", field, given[name], released, now)
        elif after.get("additionalProperties") is False:
            yield f"{at}/{name}: is not taken any more"
    others, taken = _others(before), _others(after)
    if taken is None and others is not None:
        yield f"{at}: other fields are not taken any more"
    elif taken and others is not None:
        yield from _narrower(f"{at}/*", others, taken, released, now)
    if "items" in after:
        yield from _narrower(f"{at}/0", before.get("items", {}), after["items"], released, now)


def _others(schema: Json) -> Json | None:
    """What it takes, and who reads it finds, beside its properties; None if nothing."""
    found = schema.get("additionalProperties", True)
    return None if found is False else {} if found is True else found


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
    known = kinds(before, released)
    for kind in kinds(after, now):
        read = [list(_missing(at, each, kind, released, now)) for each in known if holds(each, kind)]
        was = " or ".join(map(named, known))
        yield from min(read, key=len, default=[f"{at}: is {named(kind)}, was {was}"])


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
    if (others := _others(before)) and (found := _others(after)) is not None:
        yield from _less(f"{at}/*", others, found, released, now)
    if "items" in before:
        yield from _less(f"{at}/0", before["items"], after.get("items", {}), released, now)
