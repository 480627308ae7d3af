"""What a key is, what it names, and what is read from what Redis replies."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from api.errors import BadIdempotencyKey, KeyReused, StillRunning
from api.idempotency import Answer, claim, name_of, read_key, read_reply
from tests.api.conftest import Door, as_operator

ANSWER = Answer(202, "/v1/orders/1", msgspec.Raw(b'{"order_id":"1"}'))


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("8e03978e-40d5", "8e03978e-40d5"),
        ('"8e03978e-40d5"', "8e03978e-40d5"),
        (r"a\b", r"a\b"),
        (r'"a\\b"', r"a\b"),
        ("a,b;c=d", "a,b;c=d"),
        ('"' + r"\\" * 255 + '"', "\\" * 255),
    ],
)
def test_a_key_is_read_as_it_is_and_as_a_structured_string(header: str, key: str):
    assert read_key([header]) == key


@pytest.mark.parametrize(
    "header",
    [
        *("", '"', '""', "a b", '"a b"', "a\tb", "x" * 256, '"' + "x" * 256 + '"', "é", "a\x7f"),
        *(r'"a\b"', r'"a\"b"', r'"a\"', '"a"b"', '"a";b=1', 'a"b', '"a", "b"'),
    ],
)
def test_a_key_that_is_neither_is_refused(header: str):
    with pytest.raises(BadIdempotencyKey):
        read_key([header])


@pytest.mark.parametrize("headers", [[], ["a", "a"], ["a", "b"]])
def test_no_key_and_two_keys_are_refused(headers: list[str]):
    with pytest.raises(BadIdempotencyKey):
        read_key(headers)


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/stock/lamp/receipts"), ("PUT", "/v1/prices/lamp")])
async def test_which_of_two_keys_is_meant_is_not_guessed(door: Door, method: str, path: str):
    body = {"POST": {"quantity": 1}, "PUT": {"amount_minor": 1, "currency": "EUR"}}[method]
    headers = [*as_operator().items(), ("Idempotency-Key", "a"), ("idempotency-key", "b")]
    answer = await door.http.request(method, path, json=body, headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (400, "/problems/idempotency-key")
    assert not door.log.requests


def test_a_key_names_one_thing_of_one_tenant():
    assert name_of("shop", "k") == name_of("shop", "k")
    assert len({name_of("shop", "k"), name_of("other", "k"), name_of("shop", "l"), name_of("", "shop", "k")}) == 4
    assert UUID(name_of("shop", "k")).version == 5


def test_no_order_key_names_a_receipt():
    assert name_of("", "shop", "lamp", "k") not in {name_of("shop", "lamp/k"), name_of("shop", "/shop/lamp/k")}


def test_a_retry_says_the_same_but_is_an_attempt_of_its_own():
    first, second = claim("n", "shop/c7", "{}"), claim("n", "shop/c7", "{}")

    assert first.fingerprint == second.fingerprint
    assert first.owner != second.owner


def test_another_body_or_another_customer_is_another_request():
    said = [claim("n", of, body).fingerprint for of, body in (("a/b", "1"), ("a/b", "2"), ("a/c", "1"), ("a/b\n1", ""))]

    assert len(set(said)) == 4


def test_nothing_of_the_body_is_kept():
    assert "Ada" not in repr(claim("n", "shop/c7", '{"recipient":"Ada"}'))


@pytest.mark.parametrize("reply", [None, [b"begun"]])
def test_without_an_earlier_answer_the_request_goes_ahead(reply: Any):
    assert read_reply(reply) is None


def test_an_earlier_answer_is_given_again_word_for_word():
    assert read_reply([b"answered", msgspec.json.encode(ANSWER)]) == ANSWER


@pytest.mark.parametrize(("left_ms", "retry_after"), [(0, "1"), (-2, "1"), (1_500, "1"), (30_000, "2")])
def test_a_running_request_is_waited_for_a_little(left_ms: int, retry_after: str):
    with pytest.raises(StillRunning) as refused:
        read_reply([b"running", left_ms])

    assert refused.value.headers["Retry-After"] == retry_after


def test_a_key_used_for_something_else_is_refused():
    with pytest.raises(KeyReused):
        read_reply([b"reused"])


def test_what_nothing_here_writes_is_not_guessed_at():
    with pytest.raises(ValueError, match="nothing here writes"):
        read_reply([b"nonsense"])
