"""What services declare is what the schemas say; and a declaration that is not is told."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Any

import pytest

from contracts import views
from streams.billing.service import billing
from streams.kit.events import Event, Fact, Heard, Value
from streams.kit.language import Language, Schema

LANGUAGE = Language.load()


def found(event: type[Event], topic: str, *, reads: bool = True) -> list[str]:
    return [finding.what for finding in views.check_event(LANGUAGE, billing, event, topic, reads=reads)]


def test_every_service_reads_and_says_what_the_schemas_say() -> None:
    names = [service.name for service in views.services()]
    assert {"orders", "inventory", "billing", "shipping"} <= set(names)
    assert views.check(LANGUAGE) == []


class Price(Value):
    unit_price_minor: int


class Cents(Value):
    amount_minor: int


class Amount(Value):
    amount_minor: str


def view(topic: str, name: str, **fields: Any) -> type[Heard]:
    """A view that a consumer might declare."""
    make: Any = type(Heard)
    heard: type[Heard] = make(name, (Heard,), {"__annotations__": fields, "__module__": __name__}, topic=topic)
    return heard


class Reason(StrEnum):
    UNKNOWN = "UNKNOWN"
    CUSTOMER = "CUSTOMER"


@pytest.mark.parametrize(
    "fields",
    [
        {"order_id": str, "at": datetime},
        {"total": Cents},
        {"lines": tuple[Price, ...]},
        {"deadline": datetime},
        {},
    ],
)
def test_a_view_may_leave_fields_out_also_of_inner_records(fields: dict[str, Any]) -> None:
    assert found(view("orders", "OrderPlaced", **fields), "orders") == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"order": str}, "reads OrderPlaced.order, which is not a field (fields: tenant, order_id"),
        ({"order_id": int}, "reads OrderPlaced.order_id as int, but it is string."),
        ({"total": int}, "reads OrderPlaced.total as int, but it is a record Money."),
        ({"total": Amount}, "reads OrderPlaced.total.amount_minor as str, but it is long."),
        ({"total": Price}, "reads OrderPlaced.total.unit_price_minor, which is not a field"),
        ({"lines": list[Price]}, "but it is an array: read it as tuple[X, ...]"),
        ({"lines": tuple[Cents, ...]}, "reads OrderPlaced.lines[].amount_minor, which is not a field"),
        ({"deadline": int}, "reads OrderPlaced.deadline as int, but it is a time."),
    ],
)
def test_a_view_that_the_schema_does_not_bear_out_is_told(fields: dict[str, Any], told: str) -> None:
    assert any(told in each for each in found(view("orders", "OrderPlaced", **fields), "orders"))


def test_an_enum_is_read_as_text_or_with_every_symbol() -> None:
    assert found(view("orders", "OrderCancelled", reason=str), "orders") == []
    assert found(view("orders", "OrderCancelled", reason=int), "orders") == [
        "reads OrderCancelled.reason as int, but it is an enum."
    ]
    (told,) = found(view("orders", "OrderCancelled", reason=Reason), "orders")
    assert "lacks DEADLINE, NOT_SHIPPABLE, OUT_OF_STOCK, PAYMENT_DECLINED" in told


def test_what_may_be_null_is_read_as_such() -> None:
    assert found(view("shipping", "ShipmentCancelled", reference=str | None), "shipping") == []
    (told,) = found(view("shipping", "ShipmentCancelled", reference=str), "shipping")
    assert "it may also be null" in told


def test_a_view_of_an_event_that_nobody_says_is_told() -> None:
    (told,) = found(view("orders", "OrderPraised"), "orders")
    assert "topic orders has no event 'OrderPraised'" in told


def also(topic: str, name: str, *fields: dict[str, Any]) -> Language:
    """The language with a next version of one event that has these fields too."""
    last = LANGUAGE.latest(topic, name)
    raw = {**last.raw, "fields": [*last.raw["fields"], *fields]}
    version = last.version + 1
    return Language([*LANGUAGE, Schema(topic, name, version, last.fullname, raw, json.dumps(raw), last.file)])


def test_a_time_that_the_event_itself_says_is_not_the_kits() -> None:
    placed = also("orders", "OrderPlaced", {"name": "at", "type": "string"})

    [wrong] = views.check_event(placed, billing, view("orders", "OrderPlaced", at=datetime), "orders", reads=True)
    assert "reads OrderPlaced.at as datetime, but it is string" in wrong.what
    assert views.check_event(placed, billing, view("orders", "OrderPlaced", at=str), "orders", reads=True) == []


def test_a_map_is_left_out_and_cannot_be_read() -> None:
    tags = also("orders", "OrderPlaced", {"name": "tags", "type": {"type": "map", "values": "string"}})

    assert views.check_event(tags, billing, view("orders", "OrderPlaced"), "orders", reads=True) == []
    reading = view("orders", "OrderPlaced", tags=dict[str, str])
    [wrong] = views.check_event(tags, billing, reading, "orders", reads=True)
    assert "it is a map, which no class holds: an array of records says as much" in wrong.what


class InvoiceCancelled(Fact):
    tenant: str
    note: str


def test_what_is_said_has_every_field_and_no_other() -> None:
    told = found(InvoiceCancelled, "billing", reads=False)
    assert told == [
        "says InvoiceCancelled.note, which is not a field (fields: tenant, order_id).",
        "says InvoiceCancelled without order_id.",
    ]
