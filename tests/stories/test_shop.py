"""The shop that stories are told with: how it orders a story, and what it says when it waited in vain."""

import random

import httpx
import pytest

from streams.kit.shop import NeverHappened, NotServed, Order
from streams.kit.shown import Told, in_causal_order
from streams.kit.testing import Shop

ORDER = Order("0190a000-0000-7000-8000-000000000001", "ada")
CANCELLED = [
    Told("orders/0/7", "OrderPlaced", "orders", "orders.requests/0/3", {}),
    Told("billing/0/4", "InvoiceOpened", "billing", "orders/0/7", {}),
    Told("shipping/0/2", "ShipmentPlanned", "shipping", "orders/0/7", {}),
    Told("inventory/0/9", "StockReserved", "inventory", "orders/0/7", {}),
    Told("billing/0/5", "PaymentDeclined", "billing", "inventory/0/9", {}),
    Told("orders/0/8", "OrderCancelled", "orders", "billing/0/5", {}),
    Told("inventory/0/10", "StockReleased", "inventory", "orders/0/8", {}),
    Told("billing/0/6", "InvoiceCancelled", "billing", "orders/0/8", {}),
    Told("shipping/0/3", "ShipmentCancelled", "shipping", "orders/0/8", {}),
    Told("loyalty/0/1", "PointsRefused", "loyalty", "orders/0/7", {}),
]


class Issuer:
    """Makes tokens that say whose they are."""

    def token(self, tenant: str, subject: str) -> str:
        return f"{subject}@{tenant}"

    def operator_token(self, tenant: str) -> str:
        return f"operator@{tenant}"


def shop_behind(*answers: httpx.Response) -> Shop:
    """A shop whose gateway gives these answers, and then the last one again and again."""
    waiting = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://gateway")
    return Shop(http, Issuer(), "shop", patience_seconds=0.05)


def shown(status: str, *facts: Told) -> httpx.Response:
    story = [{"id": f.id, "fact": f.fact, "speaker": f.speaker, "cause": f.cause, "detail": {}} for f in facts]
    return httpx.Response(
        200, json={"status": status, "reason": "", "total_minor": 0, "currency": "EUR", "story": story}
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_story_is_told_in_the_same_order_however_it_was_heard(seed: int) -> None:
    heard = random.Random(seed).sample(CANCELLED, len(CANCELLED))
    assert in_causal_order(heard) == CANCELLED


def test_an_answer_is_told_after_its_question_also_where_the_saga_has_it_before() -> None:
    question = Told("loyalty/0/1", "PointsAsked", "loyalty", "elsewhere", {})
    answered = Told("orders/0/1", "OrderPlaced", "orders", question.id, {})
    assert in_causal_order([answered, question]) == [question, answered]


async def test_an_order_is_settled_only_when_everybody_has_undone_what_they_did() -> None:
    shop = shop_behind(*(shown("cancelled", *CANCELLED[:count]) for count in (6, 7, 8, 9)))
    assert len(await shop.story(ORDER)) == 9


async def test_a_shop_that_waited_in_vain_says_for_what_and_what_it_saw_last() -> None:
    with pytest.raises(NeverHappened, match=r"(?s)not after .* is settled\. Last seen: .*'placed'.*OrderPlaced"):
        await shop_behind(shown("placed", CANCELLED[0])).status(ORDER)


async def test_an_order_that_was_not_heard_of_yet_is_waited_for() -> None:
    shop = shop_behind(httpx.Response(404), shown("rejected"))
    assert (await shop.look(ORDER)).status == "unknown"
    assert await shop.status(ORDER) == "rejected"


async def test_a_refusal_of_the_gateway_is_shown_as_it_is() -> None:
    with pytest.raises(NotServed, match="POST /v1/orders: 429 slowly"):
        await shop_behind(httpx.Response(429, text="slowly")).place(sku="lamp")
