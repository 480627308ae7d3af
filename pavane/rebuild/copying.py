"""New rows as PostgreSQL's COPY takes them: text, a line a row.

COPY cannot replace a row that is there already, so it serves for rows that nobody has written yet.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple
from psycopg import sql

from streams.kit.columns import JSON, TEXT, TIME, types_of
from streams.kit.events import State

NULL = "\x1f"
_ESCAPES = str.maketrans({NULL: "\\" + NULL, "\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_encode_lines = msgspec.json.Encoder().encode_lines


def copied(state: type[State], table: sql.Composable | None = None) -> sql.Composed:
    """The table with the columns that this version knows; others get their defaults."""
    columns = sql.SQL(", ").join(map(sql.Identifier, state.__struct_fields__))
    return sql.SQL("{} ({})").format(table or sql.Identifier(state.table), columns)


def copy_of(state: type[State]) -> sql.Composed:
    """The statement that takes lines."""
    return sql.SQL("COPY {} FROM STDIN (NULL {})").format(copied(state), sql.Literal(NULL))


def lines(state: type[State], rows: Collection[State]) -> bytes:
    """The rows' lines: what the statement is given."""
    if not rows:
        return b""
    columns = [*zip(*map(astuple, rows), strict=True)]
    kinds = types_of(state)
    # Texts hardly ever hold what needs an escape: one look at all lines together tells whether some does.
    text = _joined([_texts(kind, values) for kind, values in zip(kinds, columns, strict=True)])
    nulls = sum(values.count(None) for values in columns)
    counted = text.count("\n"), text.count("\t"), text.count(NULL)
    if "\\" in text or "\r" in text or counted != (len(rows), len(rows) * (len(columns) - 1), nulls):
        text = _joined([_texts(kind, values, _escaped) for kind, values in zip(kinds, columns, strict=True)])
    return text.encode()


def _joined(columns: Sequence[Sequence[str]]) -> str:
    return "\n".join([*map("\t".join, zip(*columns, strict=True)), ""])


def _texts(kind: str, values: Sequence[Any], escaped: Callable[[str], str] | None = None) -> Sequence[str]:
    """A column's values, each as its line has it: made by few calls for all of them."""
    some = [value for value in values if value is not None] if None in values else values
    if kind == JSON:
        texts = _encode_lines(some).decode().split("\n")[:-1]
    elif kind == TIME:
        texts = _encode_lines(some).decode().replace('"', "").split("\n")[:-1]
    elif kind == TEXT:
        texts = [*map(str.__str__, some)]
    else:
        texts = [*map(repr, some)]
    if escaped is not None:
        texts = [*map(escaped, texts)]
    if some is values:
        return texts
    given = iter(texts)
    return [NULL if value is None else next(given) for value in values]


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)
