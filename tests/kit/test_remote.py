"""Whatever comes back to one question over HTTP, the others of its round have their answers or come with the next."""

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from streams.billing.provider import Authorized, AuthorizePayment, ReversePayment
from streams.billing.service import billing
from streams.kit import remote
from streams.kit.events import Unanswered, Unasked, Unreached
from streams.kit.money import Money
from streams.kit.remote import RemoteWorld

DEEP = b'{"key": "payment/odd", "outcome": "Authorized", "answer": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"


def question(key: str) -> AuthorizePayment:
    return AuthorizePayment(order_id=key, amount=Money(amount_minor=100, currency="EUR"), method="card")


def authorized(key: str) -> httpx.Response:
    said = {"key": key, "outcome": "Authorized", "answer": {"reference": "p1"}}
    return answered(msgspec.json.encode(said))


def answered(body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    async def sent() -> AsyncIterator[bytes]:
        yield body

    return httpx.Response(200, content=sent(), headers=headers)


def odd(answer: str, outcome: str = "Authorized") -> httpx.Response:
    return answered(b'{"key": "payment/odd", "outcome": "%b", "answer": %b}' % (outcome.encode(), answer.encode()))


PACKED = gzip.compress(b'{"key": "payment/odd", "outcome": "Authorized", "answer": {"reference": "p1"}}')


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (httpx.Response(503, headers={"Retry-After": "Wed, 21 Oct 99999999999 07:28:00 GMT"}), "it answers 503"),
        (answered(DEEP), "its answer cannot be read: RecursionError"),
        (answered(b"\xff"), "its answer cannot be read"),
        (answered(PACKED, {"Content-Encoding": "gzip"}), "its answer cannot be read"),
        (odd('{"reference": "%s"}' % ("x" * 70_000)), "its answer takes over 65536 bytes"),
        (odd('{"reference": "a\\u0000b"}'), "its answer cannot be kept: a text has a NUL character"),
    ],
    ids=["a date that is none", "too deep", "no text", "packed", "too large", "a NUL character"],
)
async def test_an_answer_that_cannot_be_read_or_kept_leaves_its_own_question_unanswered(
    odd: httpx.Response, why: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        return odd if key == "payment/odd" else authorized(key)

    async with httpx.AsyncClient(base_url="http://provider", transport=httpx.MockTransport(answer)) as http:
        first, second = await RemoteWorld(billing, http).ask([question("odd"), question("1")])
    assert isinstance(first, Unanswered)
    assert first.reason.startswith(why)
    assert second == Authorized(reference="p1")


async def test_an_amount_beyond_64_bits_is_no_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return odd(f'{{"reference": "p1", "amount": {{"amount_minor": {2**63}, "currency": "EUR"}}}}', "Refunded")

    async with httpx.AsyncClient(base_url="http://provider", transport=httpx.MockTransport(answer)) as http:
        [told] = await RemoteWorld(billing, http).ask([ReversePayment(order_id="odd")])
    assert told == Unanswered(reason="its answer cannot be kept: a number has more than 64 bits")


async def test_of_more_questions_than_a_round_has_time_for_none_fails_and_each_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "BEGINNING_SECONDS", 0.05)
    asked: Counter[str] = Counter()
    at_once: set[str] = set()
    most = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal most
        key = request.headers["Idempotency-Key"]
        asked[key] += 1
        at_once.add(key)
        most = max(most, len(at_once))
        await asyncio.sleep(0.02)
        at_once.remove(key)
        return authorized(key)

    left = [question(str(number)) for number in range(200)]
    rounds = 0
    async with httpx.AsyncClient(base_url="http://provider", transport=httpx.MockTransport(answer)) as http:
        world = RemoteWorld(billing, http)
        while left:
            answers = await world.ask(left)
            rounds += 1
            begun = [not isinstance(each, Unasked) for each in answers]
            assert begun == sorted(begun, reverse=True), "the first are asked first"
            assert all(isinstance(each, Authorized | Unasked) for each in answers)
            left = left[sum(begun) :]
    assert rounds > 1
    assert (set(asked.values()), most) == ({1}, remote.QUESTIONS_AT_ONCE)


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Unanswered), (429, Unanswered), (500, Unanswered), (502, Unreached), (503, Unreached)]
)
async def test_only_a_gateway_that_reaches_nobody_says_of_others_that_they_are_away(
    status: int, kind: type[Unanswered]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"Retry-After": "7"})

    async with httpx.AsyncClient(base_url="http://provider", transport=httpx.MockTransport(answer)) as http:
        [told] = await RemoteWorld(billing, http).ask([question("1")])
    assert type(told) is kind
    assert isinstance(told, Unanswered)
    assert told.retry_after_seconds == 7.0


async def test_who_cannot_be_connected_to_or_says_nothing_in_time_is_not_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote, "CALL_SECONDS", 0.05)

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["Idempotency-Key"] == "payment/refused":
            raise httpx.ConnectError("refused")
        await asyncio.Event().wait()
        raise AssertionError

    async with httpx.AsyncClient(base_url="http://provider", transport=httpx.MockTransport(answer)) as http:
        told = await RemoteWorld(billing, http).ask([question("refused"), question("hangs")])
    assert [type(each) for each in told] == [Unreached, Unreached]
