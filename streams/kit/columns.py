"""Rows as PostgreSQL's `unnest` takes them: one array a column, as text.

An array of JSON is almost an array of PostgreSQL: other brackets, and other escapes than those of a quote and of a
backslash. So each column is encoded at once, and only one that holds such an escape is written value by value.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect
from msgspec.structs import astuple

from streams.kit.errors import WrongDeclaration
from streams.kit.events import State

TEXT, TIME, JSON = "text", "timestamptz", "jsonb"
_BY_KIND: dict[Any, str] = {
    inspect.StrType: TEXT,
    inspect.EnumType: TEXT,
    inspect.IntType: "bigint",
    inspect.BoolType: "boolean",
    inspect.DateTimeType: TIME,
    inspect.FloatType: "double precision",
    inspect.StructType: JSON,
    inspect.ListType: JSON,
    inspect.VarTupleType: JSON,
    inspect.TupleType: JSON,
    inspect.DictType: JSON,
    inspect.RawType: JSON,
}
_encode = msgspec.json.Encoder().encode
_OTHER_ESCAPE = re.compile(r'(?<!\\)(?:\\\\)*\\[^\\"]')


@cache
def types_of(state: type[State]) -> tuple[str, ...]:
    """The type of PostgreSQL in which each field of the row travels, in order; whatever is composed is JSON.

    Raises `WrongDeclaration` for a type that no column takes.
    """
    return tuple(_type_of(state, field.name, field.type) for field in msgspec.structs.fields(state))


def arrays(state: type[State], rows: Sequence[State]) -> list[str]:
    """One array for each field of the rows, in order."""
    columns = zip(zip(*map(astuple, rows), strict=True), types_of(state), strict=True)
    return [_array_of_json(values) if kind == JSON else array_of(values) for values, kind in columns]


def _type_of(state: type[State], name: str, declared: Any) -> str:
    kind = inspect.type_info(declared)
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    plain = [each.type if isinstance(each, inspect.Metadata) else each for each in kinds]
    found = {_BY_KIND.get(type(each)) for each in plain if not isinstance(each, inspect.NoneType)}
    if len(found) != 1 or None in found:
        raise WrongDeclaration(f"{state.__name__}.{name}: no column takes {declared}")
    return str(found.pop())


def _array_of_json(values: Sequence[Any]) -> str:
    # JSON has escaped what else would need an escape: as a text it holds quotes and backslashes alone.
    texts = [None if value is None else _encode(value).decode() for value in values]
    return f"{{{_encode(texts).decode()[1:-1]}}}"


def array_of(values: Sequence[Any]) -> str:
    """The values as one array of PostgreSQL, as text."""
    text = _encode(values).decode()
    if "\\" in text and _OTHER_ESCAPE.search(text):
        return f"{{{','.join(map(_value, values))}}}"
    return f"{{{text[1:-1]}}}"


def _value(value: str | int | bool | datetime | None) -> str:
    if not isinstance(value, str):
        return _encode(value).decode()
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
