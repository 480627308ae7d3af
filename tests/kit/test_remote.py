"""Whatever comes back to one question over HTTP, the others of its round have their answers."""

import httpx
import msgspec
import pytest

from streams.billing.provider import Authorized, AuthorizePayment
from streams.billing.service import billing
from streams.kit.events import Unanswered
from streams.kit.money import Money
from streams.kit.remote import RemoteWorld

DEEP = b'{"key": "payment/odd", "outcome": "Authorized", "answer": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def question(key: str) -> AuthorizePayment:
    return AuthorizePayment(order_id=key, amount=Money(amount_minor=100, currency="EUR"), method="card")


@pytest.mark.parametrize(
    "odd",
    [
        httpx.Response(503, headers={"Retry-After": "Wed, 21 Oct 99999999999 07:28:00 GMT"}),
        httpx.Response(200, content=DEEP),
        httpx.Response(200, content=b"\xff"),
    ],
    ids=["a date that is none", "too deep", "no text"],
)
async def test_an_answer_that_no_library_can_read_leaves_its_own_question_unanswered(odd: httpx.Response) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        if key == "payment/odd":
            return odd
        said = {"key": key, "outcome": "Authorized", "answer": {"reference": "p1"}}
        return httpx.Response(200, content=msgspec.json.encode(said))

    async with httpx.AsyncClient(base_url="http://provider", transport=httpx.MockTransport(answer)) as http:
        first, second = await RemoteWorld(billing, http).ask([question("odd"), question("1")])
    assert isinstance(first, Unanswered)
    assert second == Authorized(reference="p1")
