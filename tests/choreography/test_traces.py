"""Traces worth keeping, as the explorer writes them. A violation that it prints belongs here, before it is mended."""

import pytest

from choreography.story import replay
from contracts.views import services


def test_a_late_authorization_of_a_lost_batch_finds_the_payment_reversed() -> None:
    wrong = replay(services(), ["pays"], """
        orders is asked PlaceOrder -> OrderPlaced
        billing hears OrderPlaced of orders -> InvoiceOpened
        inventory hears OrderPlaced of orders -> StockReserved
        billing asks AuthorizePayment in a batch that is lost, after StockReserved; the question is still under way
        orders sees the deadline pass -> OrderCancelled
        billing hears OrderCancelled of orders -> InvoiceCancelled
        billing hears StockReserved of inventory
        inventory hears OrderCancelled of orders -> StockReleased
        shipping hears OrderPlaced of orders -> ShipmentPlanned
        shipping hears OrderCancelled of orders -> ShipmentCancelled
    """)  # fmt: skip

    assert not wrong, wrong


def test_a_capture_that_got_no_answer_is_refunded_as_soon_as_the_order_is_cancelled() -> None:
    wrong = replay(services(), ["pays"], """
        orders is asked PlaceOrder -> OrderPlaced
        billing hears OrderPlaced of orders -> InvoiceOpened
        inventory hears OrderPlaced of orders -> StockReserved
        billing hears StockReserved of inventory -> PaymentAuthorized
        shipping hears OrderPlaced of orders -> ShipmentPlanned
        shipping hears PaymentAuthorized of billing -> ShipmentBooked
        billing hears ShipmentBooked of shipping, and gets no answer; the question is still under way
        orders is asked CancelOrder -> OrderCancelled
        CapturePayment of a lost batch of billing arrives
        billing hears OrderCancelled of orders -> PaymentRefunded
        billing tries ShipmentBooked again
        inventory hears OrderCancelled of orders -> StockReleased
        shipping hears OrderCancelled of orders -> ShipmentCancelled
    """)  # fmt: skip

    assert not wrong, wrong


def test_a_capture_that_got_no_answer_is_not_asked_again_while_the_refund_gets_none() -> None:
    wrong = replay(services(), ["pays"], """
        orders is asked PlaceOrder -> OrderPlaced
        billing hears OrderPlaced of orders -> InvoiceOpened
        inventory hears OrderPlaced of orders -> StockReserved
        billing hears StockReserved of inventory -> PaymentAuthorized
        shipping hears OrderPlaced of orders -> ShipmentPlanned
        shipping hears PaymentAuthorized of billing -> ShipmentBooked
        billing hears ShipmentBooked of shipping, and gets no answer
        orders is asked CancelOrder -> OrderCancelled
        billing hears OrderCancelled of orders, and gets no answer
        billing tries OrderCancelled again -> PaymentVoided
        billing tries ShipmentBooked again
        inventory hears OrderCancelled of orders -> StockReleased
        shipping hears OrderCancelled of orders -> ShipmentCancelled
    """)  # fmt: skip

    assert not wrong, wrong


def test_a_trace_that_stops_half_way_says_what_nobody_has_heard() -> None:
    assert "OrderPlaced" in replay(services(), ["pays"], "orders is asked PlaceOrder")


def test_a_move_that_cannot_happen_is_told_with_those_that_can() -> None:
    with pytest.raises(LookupError, match=r"billing hears StockReserved.*What can: 'orders is asked PlaceOrder'"):
        replay(services(), ["pays"], "billing hears StockReserved of inventory")
