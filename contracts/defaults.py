"""What a field's default may be. Who reads a record of before the field takes the default for what was said.

So it must say that nothing was said (null, an empty list or map, the enum's own default), or its doc must say what it
stands for. Neither a time nor an amount of money has such a value: 0 is 1970, and free.
"""

import re
from typing import Any

from contracts.places import Place

_INTEGERS = {"int": 31, "long": 63}
_SAYS_WHAT_IT_STANDS_FOR = re.compile(r"\bdefault", re.IGNORECASE)
_OPTIONAL = 'Write ["null", ...] and "default": null, or give the field another name and version.'


def flaw_of_default(place: Place) -> tuple[str, str] | None:
    """What is wrong with the default of a field that has one, and what to do; None if nothing is."""
    field, default = place.field, place.field["default"]
    kind, shown = _first(field["type"], place), f"the field {place.path} has the default {field['default']!r}"
    if not _fits(default, kind):
        return f"{shown}, which is no value of its type (of a union: its first).", "Correct the default."
    if default is None or default in ([], {}):
        return None
    if isinstance(kind, dict) and kind["type"] == "enum":
        told = default == kind.get("default")
        return None if told else (f"{shown}, which reads as if it were said.", f"Make it {kind.get('default')!r}.")
    if field["name"].endswith("_minor") or (isinstance(kind, dict) and kind.get("logicalType", "")):
        return f"{shown}, which reads as a real one.", _OPTIONAL
    if not _SAYS_WHAT_IT_STANDS_FOR.search(field.get("doc", "")):
        return f"{shown}, and its doc does not say what it stands for.", f"Say so ('The default: ...'). Or: {_OPTIONAL}"
    return None


def _first(node: Any, place: Place) -> Any:
    """The type that a default must have, with a name in place of its definition looked up."""
    if isinstance(node, list):
        return _first(node[0], place)
    if isinstance(node, dict) and isinstance(node["type"], dict | list):
        return _first(node["type"], place)
    if isinstance(node, str):
        short = node.rpartition(".")[2]
        found = (kind for kind in place.kinds if isinstance(kind, dict) and kind.get("name", "") == short)
        return next(found, node)
    return node


def _fits(value: Any, kind: Any) -> bool:
    """Is it a value of the type, with all that it holds? Of a type that is only named within it, every value is."""
    if isinstance(kind, list):
        return _fits(value, kind[0])
    name = kind["type"] if isinstance(kind, dict) else kind
    if isinstance(value, bool):
        return bool(name == "boolean")
    match name:
        case "null":
            return value is None
        case "int" | "long":
            return isinstance(value, int) and -(2 ** _INTEGERS[name]) <= value < 2 ** _INTEGERS[name]
        case "float" | "double":
            return isinstance(value, int | float)
        case "string" | "bytes" | "fixed":
            return isinstance(value, str)
        case "enum":
            return value in kind["symbols"]
        case "array":
            return isinstance(value, list) and all(_fits(each, kind["items"]) for each in value)
        case "map":
            return isinstance(value, dict) and all(_fits(each, kind["values"]) for each in value.values())
        case "record":
            return isinstance(value, dict) and all(_fits_field(value, field) for field in kind["fields"])
        case _:
            return True


def _fits_field(value: dict[str, Any], field: dict[str, Any]) -> bool:
    return _fits(value[field["name"]], field["type"]) if field["name"] in value else "default" in field
