"""Who was refused is in the log, in words that tell nothing of a person, and a thousand times is one line."""

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.errors import Forbidden, InvalidRequest, LimitReached, Unauthenticated
from api.refusals import Refusals
from api.tokens import Caller
from streams.kit.logs import MOST_REMEMBERED, QUIET_SECONDS
from tests.api.conftest import Door, as_customer, order, token

ADA = Caller("shop", "ada-lovelace", frozenset())


def asked(address: str = "192.0.2.1", **more: Any) -> dict[str, Any]:
    return {"method": "GET", "address": address, **more}


async def test_a_forged_token_and_a_missing_right_are_written_down_with_who_where_and_why(door: Door) -> None:
    forged = token()[:-8] + "AAAAAAAA"
    with capture_logs() as lines:
        await door.http.get("/v1/orders", headers={"Authorization": f"Bearer {forged}"})
        await door.http.post("/v1/orders", json=order(), headers={"Authorization": f"Bearer {forged}x"})
        await door.http.get("/v1/overdue", headers=as_customer("ada-lovelace"))
    said = [(line["problem"], line["route"], line["tenant"], line["more"]) for line in lines]
    # The second forgery came from the same address, too soon for a line of its own.
    assert said == [("unauthenticated", "/v1/orders", None, 0), ("forbidden", "/v1/overdue", "shop", 0)]
    assert {line["address"] for line in lines} == {"127.0.0.1"}
    assert lines[0]["why"] == "The token's signature cannot be verified."
    assert "overdue:read" in lines[1]["why"]
    text = repr(lines)
    assert forged not in text and "ada-lovelace" not in text


async def test_what_is_wrong_with_a_request_that_was_let_in_is_nobodys_secret_and_not_written_down(door: Door) -> None:
    with capture_logs() as lines:
        answer = await door.http.post("/v1/orders", json={}, headers=as_customer(idempotency_key="k1"))
        missing = await door.http.get("/v1/orders/none", headers=as_customer())
    assert (answer.status_code, missing.status_code) == (422, 404)
    assert lines == []


@pytest.mark.parametrize("problem", [Unauthenticated("No."), Forbidden("orders:read"), LimitReached(3, {})])
def test_one_address_is_heard_once_in_a_while_with_how_many_more_there_were(
    problem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    refusals = Refusals()
    with capture_logs() as lines:
        for _ in range(1_000):
            refusals.note(asked(), problem)
        refusals.note(asked("192.0.2.2"), problem)
        now = QUIET_SECONDS
        refusals.note(asked(), problem)
    assert [(line["address"], line["more"]) for line in lines] == [
        ("192.0.2.1", 0),
        ("192.0.2.2", 0),
        ("192.0.2.1", 999),
    ]


def test_each_tenant_and_each_reason_of_one_address_is_heard() -> None:
    refusals = Refusals()
    with capture_logs() as lines:
        refusals.note(asked(), Unauthenticated("No."))
        refusals.note(asked(caller=ADA), LimitReached(3, {}))
        refusals.note(asked(caller=ADA._replace(tenant="other")), LimitReached(3, {}))
        refusals.note(asked(caller=ADA), InvalidRequest([]))
    assert [(line["problem"], line["tenant"]) for line in lines] == [
        ("unauthenticated", None),
        ("limit-reached", "shop"),
        ("limit-reached", "other"),
    ]


def test_however_many_addresses_there_are_only_some_are_remembered() -> None:
    refusals = Refusals()
    with capture_logs() as lines:
        for number in [*range(MOST_REMEMBERED + 1), 0, MOST_REMEMBERED]:
            refusals.note(asked(str(number)), Unauthenticated("No."))
    # The oldest was forgotten for the newest, and is heard again; the newest is still remembered.
    assert [line["address"] for line in lines[-2:]] == [str(MOST_REMEMBERED), "0"]
