"""Rows go into PostgreSQL as arrays of columns, and are what they were, whatever their texts hold."""

from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

import msgspec
import psycopg
import pytest

from streams.kit.columns import arrays, types_of
from streams.kit.errors import WrongDeclaration
from streams.kit.events import State, Value

ODD = ["", " ", "null", "NULL", "{a,b}", "é 漢 😀", "\x1f\x7f", "a\nb\tc\r"]
ODD += ['a "quoted" one', "back\\slash", "\\n", '\\\nmixed"']


class Colour(StrEnum):
    """One of few."""

    RED = "red"


class Part(Value):
    """What a row may be composed of."""

    name: str
    size: int | None = None


class Odd(State, table="odd", key="name"):
    """A field of every kind."""

    name: str
    note: str | None = None
    count: int = 0
    is_new: bool = False
    colour: Colour = Colour.RED
    at: datetime | None = None
    parts: tuple[Part, ...] = ()
    part: Part | None = None
    detail: dict[str, Any] = msgspec.field(default_factory=dict)


def odd(number: int, text: str) -> Odd:
    return Odd(
        name=f"{number}-{text}",
        note=text if number % 2 else None,
        count=-(2**63) + number,
        is_new=number % 2 == 0,
        at=datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC) if number % 3 else None,
        parts=(Part(name=text), Part(name="b", size=2)),
        part=Part(name=text, size=number) if number % 2 else None,
        detail={text: [text, None, 1.5]},
    )


def test_a_field_travels_as_its_own_type_and_what_is_composed_as_json() -> None:
    kinds = ("text", "text", "bigint", "boolean", "text", "timestamptz", "jsonb", "jsonb", "jsonb")
    assert types_of(Odd) == kinds


class Written(State, table="written", key="name"):
    """A field that is JSON already."""

    name: str
    said: msgspec.Raw


def test_what_is_json_already_travels_as_it_is() -> None:
    assert types_of(Written) == ("text", "jsonb")
    rows = [Written(name="a", said=msgspec.Raw(b'{"b":"\\"c\\""}'))]
    assert arrays(Written, rows) == ['{"a"}', '{"{\\"b\\":\\"\\\\\\"c\\\\\\"\\"}"}']


class Unfit(State, table="unfit", key="name"):
    """A field that no column takes."""

    name: str
    day: date | None = None


def test_a_field_that_no_column_takes_is_refused_by_its_name() -> None:
    with pytest.raises(WrongDeclaration, match=r"Unfit\.day: no column takes"):
        types_of(Unfit)


async def _there_and_back(url: str, rows: list[Odd]) -> list[Odd]:
    given = ", ".join(f"%s::{kind}[]" for kind in types_of(Odd))
    names = ", ".join(Odd.__struct_fields__)
    statement = f"SELECT to_json(r)::text FROM unnest({given}) WITH ORDINALITY AS r ({names}, place) ORDER BY place"
    async with await psycopg.AsyncConnection.connect(url) as connection:
        found = await (await connection.execute(statement.encode(), arrays(Odd, rows))).fetchall()
    return [msgspec.json.decode(text, type=Odd) for (text,) in found]


@pytest.mark.parametrize("texts", [ODD, *([text] for text in ODD), ["plain", "plain too"]], ids=repr)
async def test_what_comes_back_is_what_was_given(world_database: str, texts: list[str]) -> None:
    rows = [odd(number, text) for number, text in enumerate(texts)]
    assert await _there_and_back(world_database, rows) == rows


async def test_a_zero_character_is_refused_as_wrong_data(world_database: str) -> None:
    with pytest.raises(psycopg.DataError):
        await _there_and_back(world_database, [odd(1, "a\0b")])
