"""A change of `/v1` that would break a client is found, and one that would not is none."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.http import breaking

RELEASED: dict[str, Any] = json.loads(Path("contracts/released/v1.openapi.json").read_text())
Edit = Callable[[dict[str, Any]], Any]


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"][name]
    return found


def placing(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"]["/v1/orders"]["post"]
    return found


def listing(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["paths"]["/v1/orders"]["get"]["parameters"]
    return found


def parameter(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of one parameter of the listing."""
    [found] = [each["schema"] for each in listing(document) if each["name"] == name]
    return found  # type: ignore[no-any-return]


def quantity(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of how many pieces of an item are ordered."""
    found: dict[str, Any] = schema(document, "OrderLine")["properties"]["quantity"]
    return found


def kept(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as it was, emptied."""
    before = dict(schema)
    schema.clear()
    return before


def errors(document: dict[str, Any]) -> dict[str, Any]:
    """The schema of one error of a problem."""
    found: dict[str, Any] = schema(document, "Problem")["properties"]["errors"]["items"]
    return found


BREAKS: list[tuple[str, Edit]] = [
    ("GET /v1/stock/{sku}: is gone", lambda d: d["paths"].pop("/v1/stock/{sku}")),
    ("POST /v1/orders: is gone", lambda d: d["paths"]["/v1/orders"].pop("post")),
    ("body/currency: is not taken", lambda d: schema(d, "NewOrder")["properties"].pop("currency")),
    ("body/note: is required now", lambda d: schema(d, "NewOrder")["required"].append("note")),
    ("maxItems is 10, was 100", lambda d: schema(d, "NewOrder")["properties"]["lines"].update(maxItems=10)),
    ("minimum 2, was minimum 1", lambda d: schema(d, "OrderLine")["properties"]["quantity"].update(minimum=2)),
    ("integer is not taken", lambda d: schema(d, "OrderLine")["properties"]["quantity"].update(type="string")),
    ("pattern is", lambda d: schema(d, "OrderLine")["properties"]["sku"].update(pattern="^x$")),
    ("takes fewer values", lambda d: schema(d, "NewOrder")["properties"]["currency"].update(enum=["EUR"])),
    ("202/order_id: is gone", lambda d: schema(d, "Accepted")["properties"].pop("order_id")),
    ("202/order_id: may be missing", lambda d: schema(d, "Accepted").update(required=["status_url"])),
    ("200/total_minor: is string", lambda d: schema(d, "Order")["properties"]["total_minor"].update(type="string")),
    ("200/settled_at: is", lambda d: schema(d, "Order")["properties"]["settled_at"].update(anyOf=[{}])),
    ("200/story/0/fact: is gone", lambda d: schema(d, "Entry")["properties"].pop("fact")),
    ("202 is not answered", lambda d: placing(d)["responses"].update({"201": placing(d)["responses"].pop("202")})),
    ("the header Location is gone", lambda d: placing(d)["responses"]["202"]["headers"].pop("Location")),
    ("needs the scope admin", lambda d: placing(d).update(security=[{"bearer": ["orders:write", "admin"]}])),
    ("query since: is new and required", lambda d: listing(d).append(
        {"name": "since", "in": "query", "required": True, "schema": {"type": "string"}})),
    ("query limit: is not taken", lambda d: listing(d).remove(next(p for p in listing(d) if p["name"] == "limit"))),
    ("query limit: is required now", lambda d: [p.update(required=True) for p in listing(d)]),
    ("needs a token bearer", lambda d: d["paths"]["/health/live"]["get"].update(security=[{"bearer": []}])),
    ("query limit: default is 100, was 20", lambda d: parameter(d, "limit").update(default=100)),
    ("query limit: default is None, was 20", lambda d: parameter(d, "limit").pop("default")),
    ("query cursor: maxLength is 10, was 100", lambda d: parameter(d, "cursor")["anyOf"][0].update(maxLength=10)),
    ("query cursor: null is not taken", lambda d: parameter(d, "cursor")["anyOf"].pop()),
    ("POST /v1/orders: 409 is not answered", lambda d: placing(d)["responses"].pop("409")),
    ("POST /v1/orders: 409/detail: is gone", lambda d: schema(d, "Problem")["properties"].pop("detail")),
    ("409/errors/0/pointer: is gone", lambda d: errors(d)["properties"].pop("pointer")),
    ("409/correlation_id: may be missing", lambda d: schema(d, "Problem")["required"].remove("correlation_id")),
    ("quantity: integer is not taken", lambda d: (kept(quantity(d)), quantity(d).update(oneOf=[{"type": "string"}]))),
    ("quantity: integer is not taken", lambda d: (kept(quantity(d)), quantity(d).update(allOf=[{"type": "string"}]))),
    ("quantity: integer is not taken", lambda d: quantity(d).update(allOf=[{"type": "string"}])),
    ("sku: allOf is", lambda d: schema(d, "OrderLine")["properties"]["sku"].update(allOf=[{"pattern": "^x"}])),
    ("quantity: oneOf is", lambda d: quantity(d).update(oneOf=[{"type": "integer"}, {"type": "number"}])),
    ("quantity: minimum 5", lambda d: quantity(d).update(anyOf=[{"allOf": [kept(quantity(d)), {"minimum": 5}]}])),
    ("quantity: integer is not taken", lambda d: quantity(d).update(type=["string", "null"])),
    ("quantity: multipleOf is 10, was None", lambda d: quantity(d).update(multipleOf=10)),
    ("minimum 0, exclusiveMinimum 1, was", lambda d: quantity(d).update(minimum=0, exclusiveMinimum=1)),
    ("lines: uniqueItems is True", lambda d: schema(d, "NewOrder")["properties"]["lines"].update(uniqueItems=True)),
    ("currency: takes fewer", lambda d: schema(d, "NewOrder")["properties"]["currency"].update(const="EUR")),
    ("sku: not is", lambda d: schema(d, "OrderLine")["properties"]["sku"].update({"not": {"const": "lamp"}})),
    ("409/errors/0: is anything", lambda d: schema(d, "Problem")["properties"]["errors"].pop("items")),
    ("needs a body", lambda d: d["paths"]["/v1/orders/{order_id}/cancellation"]["post"].update(
        requestBody=placing(d)["requestBody"])),
]  # fmt: skip

GROWS: list[Edit] = [
    lambda d: d["paths"].update({"/v1/more": {"get": {"responses": {}}}}),
    lambda d: schema(d, "NewOrder")["properties"].update(note={"type": "string"}),
    lambda d: schema(d, "NewOrder")["properties"]["lines"].update(maxItems=200),
    lambda d: schema(d, "NewOrder")["required"].remove("currency"),
    lambda d: schema(d, "Order")["properties"].update(note={"type": "string"}),
    lambda d: listing(d).append({"name": "status", "in": "query", "schema": {"type": "string"}}),
    lambda d: placing(d)["responses"].update({"425": {"description": "later"}}),
    lambda d: placing(d)["responses"]["202"]["headers"].update(Extra={}),
    lambda d: placing(d).pop("security"),
    lambda d: schema(d, "Problem")["properties"].update(note={"type": "string"}),
    lambda d: schema(d, "OrderLine")["properties"]["quantity"].update(type="number"),
    lambda d: schema(d, "NewOrder")["properties"].update(currency={"anyOf": [{"type": "string"}, {"type": "null"}]}),
    lambda d: parameter(d, "cursor")["anyOf"][0].update(maxLength=200),
    lambda d: parameter(d, "limit").update(anyOf=[{"type": "integer"}, {"type": "null"}]),
    lambda d: kept(quantity(d)) and quantity(d).update(type="integer", exclusiveMinimum=0),
    lambda d: quantity(d).update(allOf=[kept(quantity(d)), {"description": "how many"}]),
    lambda d: quantity(d).update(anyOf=[{"allOf": [kept(quantity(d))]}, {"type": "string"}]),
    lambda d: quantity(d).update(type=["integer", "null"]),
    lambda d: schema(d, "OrderLine").pop("additionalProperties"),
    lambda d: d["paths"]["/v1/orders/{order_id}/cancellation"]["post"].update(
        requestBody={**placing(d)["requestBody"], "required": False}),
]  # fmt: skip


@pytest.mark.parametrize(("what", "edit"), BREAKS, ids=[what for what, _ in BREAKS])
def test_what_breaks_a_client_is_found(what: str, edit: Edit):
    changed = copy.deepcopy(RELEASED)
    edit(changed)

    found = breaking(RELEASED, changed)

    assert any(what in each for each in found), found


def test_fields_beside_the_named_ones_are_taken_where_they_were():
    released = copy.deepcopy(RELEASED)
    schema(released, "OrderLine").pop("additionalProperties")

    assert breaking(released, RELEASED) == ["POST /v1/orders: body/lines/0: other fields are not taken any more"]


@pytest.mark.parametrize("edit", GROWS)
def test_what_only_adds_breaks_nobody(edit: Edit):
    changed = copy.deepcopy(RELEASED)
    edit(changed)

    assert changed != RELEASED
    assert breaking(RELEASED, changed) == []
