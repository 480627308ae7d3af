"""The closing count: it finds each thing that is not as data and seed ask, and nothing else."""

import io

import pytest
from rich.console import Console

from pavane.demo import closing
from pavane.demo.closing import Payment
from pavane.demo.plan import Line, Order, Outcome


def order(number: int, cents: int, *may_end: Outcome) -> Order:
    return Order(
        number=number,
        id=f"order-{number}",
        customer="00001",
        lines=(Line(cents, 1),),
        cents=cents,
        payment_method="card-ok",
        postal_code="10001",
        cancel_after_seconds=None,
        may_end=frozenset(may_end),
    )


PAID = order(1, 1177, Outcome.CONFIRMED)
DECLINED = order(2, 500, Outcome.PAYMENT_DECLINED)
WAVERING = order(3, 999, Outcome.CONFIRMED, Outcome.CUSTOMER)
FREE = order(4, 0, Outcome.CONFIRMED)
ORDERS = [PAID, DECLINED, WAVERING, FREE]
ENDS = {
    "order-1": Outcome.CONFIRMED,
    "order-2": Outcome.PAYMENT_DECLINED,
    "order-3": Outcome.CUSTOMER,
    "order-4": Outcome.CONFIRMED,
}
MONEY = [Payment("order-1", "captured", 1177), Payment("order-3", "refunded", 999)]


def test_ends_and_money_as_data_and_seed_ask_are_right() -> None:
    closed = closing.close(ORDERS, ENDS, MONEY)

    assert closed.is_right
    seen = {count.label: (count.seen, count.least, count.most) for count in closed.counts}
    assert seen["placed"] == (4, 4, 4)
    assert seen["confirmed"] == (2, 2, 3)
    assert seen["cancelled: by the customer"] == (1, 0, 1)
    assert seen["dollars captured"] == (1177, 1177, 1177)
    assert seen["dollars captured and refunded"] == (999, 999, 999)


@pytest.mark.parametrize(
    ("ends", "money", "problem"),
    [
        ({**ENDS, "order-2": Outcome.CONFIRMED}, MONEY, "ended CONFIRMED, but data and seed ask for PAYMENT_DECLINED"),
        ({**ENDS, "order-1": Outcome.REJECTED}, MONEY, "ended REJECTED, but data and seed ask for CONFIRMED"),
        ({each: ENDS[each] for each in ("order-1", "order-2", "order-3")}, MONEY, "order-4 (number 4) has no end"),
        (ENDS, MONEY[1:], "order-1 (number 1): $0.00 were captured, not $11.77"),
        (ENDS, [*MONEY, MONEY[0]], "$23.54 were captured, not $11.77"),
        (ENDS, [MONEY[0]._replace(cents=1176), MONEY[1]], "$11.76 were captured, not $11.77"),
        (ENDS, [*MONEY, Payment("order-2", "captured", 500)], "order-2 (number 2): $5.00 were captured, not $0.00"),
        (ENDS, [MONEY[0], Payment("order-3", "refunded", 1)], "ended CUSTOMER, but $0.01 were refunded"),
        (ENDS, [*MONEY, Payment("order-1", "refunded", 1177)], "ended CONFIRMED, but $11.77 were refunded"),
        ({**ENDS, "order-1": Outcome.DEADLINE}, MONEY[1:], "ended DEADLINE, but data and seed ask for CONFIRMED"),
    ],
)
def test_whatever_differs_is_named(ends: dict[str, Outcome], money: list[Payment], problem: str) -> None:
    closed = closing.close(ORDERS, ends, money)

    assert not closed.is_right
    assert any(problem in each for each in closed.wrong), closed.wrong


def test_an_order_that_somebody_placed_by_hand_is_not_of_the_count() -> None:
    by_hand = [Payment("order-9", "captured", 3998), Payment("order-8", "refunded", 1999)]

    assert closing.close(ORDERS, ENDS, [*MONEY, *by_hand]) == closing.close(ORDERS, ENDS, MONEY)


def test_an_order_that_an_earlier_run_left_open_may_have_passed_its_deadline() -> None:
    late = {**ENDS, "order-1": Outcome.DEADLINE}

    closed = closing.close(ORDERS, late, MONEY[1:], earlier={"order-1", "order-4"})

    assert closed.is_right, closed.wrong
    assert [(count.seen, count.least, count.most) for count in closed.counts[1:2]] == [(1, 1, 3)]
    assert not closing.close(ORDERS, late, MONEY, earlier={"order-1"}).is_right


def test_the_table_shows_what_is_expected_and_what_is_wrong() -> None:
    shown = io.StringIO()

    closing.show(Console(file=shown, width=120), closing.close(ORDERS, ENDS, MONEY[1:]))

    assert "2 to 3" in shown.getvalue()
    assert "WRONG" in shown.getvalue()
    assert "wrong: order order-1 (number 1): $0.00 were captured, not $11.77" in shown.getvalue()
