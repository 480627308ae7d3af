"""Rows as COPY takes them: whatever is in a text, the row is the one that went in."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from pavane.rebuild.copying import NULL, copy_of, lines
from streams.orders.model import Order, Status
from streams.timeline.model import Story, StoryLine

TEXTS = st.text(st.sampled_from("a\\N\t\n\r\x1f\"é "), max_size=6)


def read_back(line: bytes) -> list[str | None]:
    """The values of a line, as PostgreSQL's manual says that COPY's text format is read."""
    escapes = {"t": "\t", "n": "\n", "r": "\r"}
    values: list[str | None] = []
    for cell in line.decode().removesuffix("\n").split("\t"):
        read, rest = "", iter(cell)
        for character in rest:
            after = next(rest) if character == "\\" else None
            read += character if after is None else escapes.get(after, after)
        values.append(None if cell == NULL else read)
    return values


@given(TEXTS, TEXTS, st.one_of(st.none(), TEXTS))
def test_every_text_comes_back_as_it_was(order_id: str, tenant: str, reason: str | None) -> None:
    row = Order(order_id=order_id, tenant=tenant, currency=reason, due_at=datetime(2026, 1, 2, tzinfo=UTC))
    line = lines(Order, [row])
    assert line.count(b"\n") == 1
    values = dict(zip(Order.__struct_fields__, read_back(line), strict=True))
    assert (values["order_id"], values["tenant"], values["currency"]) == (order_id, tenant, reason)
    assert (values["status"], values["due_at"]) == (Status.NEW.value, "2026-01-02T00:00:00Z")


def test_what_has_parts_is_json() -> None:
    row = Story(order_id="a", lines=(StoryLine(sku='"\\', quantity=1, unit_price_minor=2),))
    values = dict(zip(Story.__struct_fields__, read_back(lines(Story, [row])), strict=True))
    assert values["lines"] == r'[{"sku":"\"\\","quantity":1,"unit_price_minor":2}]'


def test_columns_that_this_version_does_not_know_are_left_to_their_defaults() -> None:
    statement = copy_of(Order).as_string(None)
    assert statement.startswith('COPY "orders" ("order_id", "partition"')
    assert sql.Literal(NULL).as_string(None) in statement
