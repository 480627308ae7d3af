"""The API describes itself in full: in a document that is held to the code, and on pages that need nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from api import answers, bodies, errors, examples
from api.app import routed
from api.errors import TYPE_PREFIX, Problem
from api.explained import EXPLAINED, types
from api.html import POLICY
from api.openapi import FILE, written
from api.routes.pages import reference_of
from contracts.http import breaking
from tests.api.conftest import Door, as_customer

NOW: dict[str, Any] = routed().openapi()
RELEASED = Path("contracts/released/v1.openapi.json")
OPERATIONS = {
    f"{method} {path}": operation
    for path, methods in NOW["paths"].items()
    for method, operation in methods.items()
    if path.startswith("/v1/")
}


def test_the_description_that_is_kept_is_that_of_the_code():
    assert FILE.read_text() == written(NOW), "write it again: python -m api.openapi"


def test_nothing_that_was_released_is_broken():
    assert breaking(json.loads(RELEASED.read_text()), NOW) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_says_who_may_what_is_refused_and_what_comes_back(name: str):
    operation = OPERATIONS[name]
    [scope] = operation["security"][0]["bearer"]
    responses = operation["responses"]

    assert scope in operation["description"]
    assert {"401", "403", "500", "503", "default"} <= responses.keys()
    assert "422" in responses or "requestBody" not in operation
    for status, response in responses.items():
        assert "X-Correlation-Id" in response["headers"]
        if status not in ("200", "202", "204", "304"):
            shown = response["content"]["application/problem+json"]["examples"]
            assert {status} == {str(each["value"]["status"]) for each in shown.values()} or status == "default"
        elif "application/json" in response.get("content", {}):
            assert response["content"]["application/json"]["schema"], "what is answered has a schema"
    assert "Retry-After" in responses["503"]["headers"]


def test_every_reference_leads_somewhere():
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(NOW))):
        found: Any = NOW
        for step in reference.split("/"):
            found = found[step]


@pytest.mark.parametrize("name", [name for name in NOW["components"]["schemas"] if name in examples.OF_SCHEMAS])
def test_examples_are_what_is_taken_and_given(name: str):
    model: type[BaseModel] = getattr(bodies, name, None) or getattr(answers, name)
    example = examples.OF_SCHEMAS[name]

    shown = json.loads(TypeAdapter(model).validate_json(json.dumps(example)).model_dump_json(exclude_unset=True))

    assert shown == example


@pytest.mark.parametrize("kind", list(types()), ids=lambda kind: kind.slug)
async def test_every_type_of_problem_has_a_page_at_its_own_address(door: Door, kind: type[Problem]):
    assert kind.slug in EXPLAINED, f"say in api/explained.py what {kind.slug} means and what to do"
    problem = examples.of_problem(kind)
    page = await door.http.get(problem.document("web-42")["type"])

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    for said in ("What happened", "What to do", str(kind.status)):
        assert said in page.text
    assert TYPE_PREFIX + kind.slug in (await door.http.get(TYPE_PREFIX)).text


def test_nothing_is_explained_that_there_is_not():
    assert EXPLAINED.keys() - {kind.slug for kind in types()} <= {"keys-away"}


async def test_a_problem_leads_to_its_explanation(door: Door):
    answer = await door.http.get("/v1/nowhere", headers=as_customer())

    assert answer.headers["link"] == '</problems/no-such-route>; rel="help"'
    assert (await door.http.get("/problems/nothing")).json()["type"] == "/problems/no-such-route"


async def test_the_pages_load_nothing_and_run_nothing(door: Door):
    page = await door.http.get("/docs")

    assert page.status_code == 200
    assert not re.search(r"<(script|link|img|iframe)|https?://| on\w+=", page.text)
    for operation in OPERATIONS.values():
        assert f'id="{operation["operationId"]}"' in page.text
    for href in set(re.findall(r'href="#([^"]+)"', page.text)):
        assert f'id="{href}"' in page.text


def test_the_description_is_written_once():
    app = routed()

    assert reference_of(app) is reference_of(app)
    assert json.loads(reference_of(app).data) == NOW


async def test_a_body_that_is_not_said_to_be_json_is_refused(door: Door):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        headers = {**as_customer(idempotency_key="k1"), "Content-Type": kind}
        answer = await door.http.post(
            "/v1/orders", content=json.dumps(examples.OF_SCHEMAS["NewOrder"]), headers=headers
        )

        assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")
        assert answer.headers["accept"] == "application/json"
    assert not door.log.requests


def test_a_gateway_that_is_not_ready_is_described():
    responses = NOW["paths"]["/health/ready"]["get"]["responses"]

    assert responses["503"]["content"] == responses["200"]["content"]


def test_who_is_just_being_forgotten_is_told_the_same_in_words_and_in_the_header():
    problem = examples.of_problem(errors.BeingForgotten)

    assert ("half a minute" in problem.detail, problem.headers["Retry-After"]) == (True, "30")


def test_problems_that_pass_say_when_to_ask_again():
    for kind in types():
        retry = examples.of_problem(kind).headers.get("Retry-After")
        assert (retry is not None) is (kind.status in (429, 503) or kind is errors.StillRunning), kind.slug
