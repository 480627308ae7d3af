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
from msgspec.inspect import BoolType, DateTimeType, EnumType, IntType, StrType, UnionType, type_info
from msgspec.structs import astuple

from streams.kit.events import State

JSON = "jsonb"
_BY_KIND: dict[Any, str] = {
    StrType: "text",
    EnumType: "text",
    IntType: "bigint",
    BoolType: "boolean",
    DateTimeType: "timestamptz",
}
_encode = msgspec.json.Encoder().encode
_OTHER_ESCAPE = re.compile(r'(?<!\\)(?:\\\\)*\\[^\\"]')


@cache
def types_of(state: type[State]) -> tuple[str, ...]:
    """The type of PostgreSQL in which each field of the row travels, in order; whatever is composed is JSON."""
    return tuple(_type_of(type_info(field.type)) for field in msgspec.structs.fields(state))


def arrays(state: type[State], rows: Sequence[State]) -> list[str]:
    """One array for each field of the rows, in order."""
    columns = zip(zip(*map(astuple, rows), strict=True), types_of(state), strict=True)
    return [_array_of_json(values) if kind == JSON else _array(values) for values, kind in columns]


def _type_of(kind: Any) -> str:
    if isinstance(kind, UnionType):
        others = [each for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)]
        kind = others[0] if len(others) == 1 else kind
    return _BY_KIND.get(type(kind), JSON)


def _array_of_json(values: Sequence[Any]) -> str:
    # JSON has escaped what else would need an escape: as a text it holds quotes and backslashes alone.
    texts = [None if value is None else _encode(value).decode() for value in values]
    return f"{{{_encode(texts).decode()[1:-1]}}}"


def _array(values: Sequence[Any]) -> str:
    text = _encode(values).decode()
    if "\\" in text and _OTHER_ESCAPE.search(text):
        return f"{{{','.join(map(_value, values))}}}"
    return f"{{{text[1:-1]}}}"


def _value(value: str | int | bool | datetime | None) -> str:
    if not isinstance(value, str):
        return _encode(value).decode()
    escaped = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
