"""New rows as PostgreSQL's COPY takes them: text, a line a row.

COPY cannot replace a row that is there already, so it serves for rows that nobody has written yet.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import astuple
from psycopg import sql

from streams.kit.events import State

NULL = "\x1f"
_ESCAPES = str.maketrans({NULL: "\\" + NULL, "\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_encode = msgspec.json.Encoder().encode


def copied(state: type[State], table: sql.Composable | None = None) -> sql.Composed:
    """The table with the columns that this version knows; others get their defaults."""
    columns = sql.SQL(", ").join(map(sql.Identifier, state.__struct_fields__))
    return sql.SQL("{} ({})").format(table or sql.Identifier(state.table), columns)


def copy_of(state: type[State]) -> sql.Composed:
    """The statement that takes lines."""
    return sql.SQL("COPY {} FROM STDIN (NULL {})").format(copied(state), sql.Literal(NULL))


def lines(state: type[State], rows: Collection[State]) -> bytes:
    """The rows' lines: what the statement is given."""
    # Texts hardly ever hold what needs an escape: one look at all lines together tells whether some does.
    text, nulls = _joined(rows, _ByType(str.__str__, _json), plain=True)
    tabs = len(rows) * (len(state.__struct_fields__) - 1)
    counted = text.count("\n"), text.count("\t"), text.count(NULL)
    if "\\" in text or "\r" in text or counted != (len(rows), tabs, nulls):
        text, _ = _joined(rows, _ByType(_escaped, _escaped_json), plain=False)
    return text.encode()


def _joined(rows: Collection[State], written: "_ByType", *, plain: bool) -> tuple[str, int]:
    """All lines, and how many of their values are none. `plain`: text is taken as it is."""
    asis = str if plain else None
    text = "".join(
        ["\t".join([x if type(x) is asis else written[type(x)](x) for x in astuple(row)]) + "\n" for row in rows]
    )
    return text, written.nulls


def _escaped(value: str) -> str:
    return value.translate(_ESCAPES)


def _json(value: Any) -> str:
    return _encode(value).decode()


def _escaped_json(value: Any) -> str:
    return _json(value).replace("\\", r"\\")


class _ByType(dict[type, Callable[[Any], str]]):
    """How a value of each type is written: kinds of text (`StrEnum`) as text, what has parts as JSON."""

    def __init__(self, text: Callable[[str], str], json: Callable[[Any], str]) -> None:
        super().__init__({str: text, int: str, float: repr, bool: repr, datetime: datetime.isoformat})
        self[type(None)] = self._null
        self._others = text, json
        self.nulls = 0

    def __missing__(self, kind: type) -> Callable[[Any], str]:
        self[kind] = self._others[0 if issubclass(kind, str) else 1]
        return self[kind]

    def _null(self, _: None) -> str:
        self.nulls += 1
        return NULL
