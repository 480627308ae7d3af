"""Stories (`streams.kit.testing`) fail where they should, and say why."""

import pytest

from streams.billing.events import InvoiceOpened, OrderCancelled, PaymentAuthorized, StockReserved
from streams.billing.model import Status
from streams.billing.provider import Authorized, AuthorizePayment
from streams.billing.service import billing
from streams.inventory.events import OrderPlaced as Ordered
from streams.inventory.events import StockReceived
from streams.inventory.service import inventory
from streams.kit.events import Due
from streams.kit.money import Money
from streams.kit.testing import Given
from streams.orders.events import CancelOrder
from streams.orders.service import orders

ORDER = "0190a000-0000-7000-8000-000000000001"
AMOUNT = Money(amount_minor=1000, currency="EUR")
OPENED = InvoiceOpened(tenant="shop", order_id=ORDER, amount=AMOUNT, payment_method="card-ok")
RESERVED = StockReserved(order_id=ORDER)
given = Given(billing)


def test_another_fact_than_expected_is_shown_as_a_difference() -> None:
    story = given(OPENED).when(RESERVED).answered(Authorized(reference="ref-1"))
    expected = PaymentAuthorized(tenant="shop", order_id=ORDER, amount=AMOUNT, reference="ref-2")
    with pytest.raises(AssertionError, match=r"(?s)- PaymentAuthorized.*'ref-2'.*\+ PaymentAuthorized.*'ref-1'"):
        story.then(expected)


def test_something_said_is_not_silence_and_silence_is_not_something() -> None:
    with pytest.raises(AssertionError, match=r"(?s)- \(nothing\).*\+ AuthorizePayment"):
        given(OPENED).when(RESERVED).then()
    with pytest.raises(AssertionError, match=r"(?s)- AuthorizePayment.*\+ \(nothing\)"):
        given().when(RESERVED).then(AuthorizePayment(order_id=ORDER, amount=AMOUNT, method="card-ok"))


def test_an_answer_needs_a_question() -> None:
    with pytest.raises(AssertionError, match="one effect was to be answered"):
        given().when(OrderCancelled(order_id=ORDER)).answered(Authorized(reference="ref-1"))


def test_what_is_said_is_remembered_for_what_comes_next() -> None:
    story = given(OPENED).when(RESERVED).answered(Authorized(reference="ref-1"))
    story.remembers(status=Status.AUTHORIZED, reference="ref-1").when(RESERVED).then()
    with pytest.raises(AssertionError, match="does not hold"):
        story.remembers(status=Status.OPEN)


def test_a_refusal_is_not_silence() -> None:
    cancel = CancelOrder(tenant="shop", order_id=ORDER)
    with pytest.raises(AssertionError, match="orders refused: no such order"):
        Given(orders)().when(cancel).then()
    with pytest.raises(AssertionError, match="is not in the refusal"):
        Given(orders)().when(cancel).refused("too expensive")
    with pytest.raises(AssertionError, match="did not refuse"):
        given().when(RESERVED).refused()


def test_a_deadline_needs_to_be_told_what_it_is_about() -> None:
    from datetime import UTC, datetime

    with pytest.raises(LookupError, match="give the story a key"):
        Given(orders)().when(Due(at=datetime(2026, 1, 1, tzinfo=UTC)))


def test_a_fact_of_another_service_is_no_past_of_this_one() -> None:
    with pytest.raises(AssertionError, match="billing folds no StockReceived"):
        given(StockReceived(tenant="shop", sku="lamp", quantity=1, request_id="r1"))


def test_a_fact_about_something_else_than_its_record_is_not_said() -> None:
    placed = Ordered(tenant="shop", order_id=ORDER, lines=())
    with pytest.raises(AssertionError, match="is not about 'another key'"):
        Given(inventory)().when(placed, key="another key")
