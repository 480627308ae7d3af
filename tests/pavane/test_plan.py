"""What the demonstration asks for: exact to the cent, and the same for the same seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pavane.demo import plan
from pavane.demo.cdnow import Row
from pavane.demo.plan import Line, Order, Outcome

ROWS = [Row("19970101", f"{number % 700:05d}", 1 + number % 4, 1000 + 37 * (number % 90)) for number in range(3000)]
SEED = 7


@pytest.fixture(scope="module")
def orders() -> list[Order]:
    return list(plan.make(ROWS, SEED).orders)


@given(st.integers(1, 99), st.integers(0, 200_000))
def test_an_orders_lines_add_up_to_the_rows_cents_and_pieces(pieces: int, cents: int) -> None:
    lines = plan.lines_of(Row("19970101", "00001", pieces, cents))

    assert sum(line.unit_cents * line.quantity for line in lines) == cents
    assert sum(line.quantity for line in lines) == pieces
    assert all(line.quantity > 0 and line.unit_cents >= 0 for line in lines)


def test_cents_that_divide_by_the_pieces_are_one_line() -> None:
    assert plan.lines_of(Row("19970112", "00002", 5, 7700)) == (Line(1540, 5),)


def test_cents_that_do_not_divide_give_the_last_piece_its_own_price() -> None:
    assert plan.lines_of(Row("19970102", "00003", 3, 2077)) == (Line(692, 2), Line(693, 1))


def test_the_same_price_is_the_same_sku() -> None:
    assert Line(1177, 3).sku == Line(1177, 1).sku == "cd-1177"


def test_the_same_seed_gives_the_same_plan_and_another_seed_another(orders: list[Order]) -> None:
    assert list(plan.make(ROWS, SEED).orders) == orders
    assert list(plan.make(ROWS, SEED + 1).orders) != orders


def test_another_seed_keeps_the_ids_of_the_orders(orders: list[Order]) -> None:
    assert [order.id for order in plan.make(ROWS, SEED + 1).orders] == [order.id for order in orders]


def test_a_customer_pays_all_orders_in_the_same_way(orders: list[Order]) -> None:
    methods = {(order.customer, order.payment_method) for order in orders}

    assert len(methods) == len({order.customer for order in orders})
    assert {method for _, method in methods} == {plan.PAYS, plan.DECLINED, plan.DECLINED_AT_CAPTURE}


def test_shares_are_about_what_they_are_said_to_be(orders: list[Order]) -> None:
    refused = sum(order.postal_code == plan.REFUSED_POSTAL_CODE for order in orders) / len(orders)
    cancelled = sum(order.cancel_after_seconds is not None for order in orders) / len(orders)

    assert refused == pytest.approx(plan.REFUSED_PARCELS, rel=0.5)
    assert cancelled == pytest.approx(plan.CANCELLED_ORDERS, rel=0.5)


def test_only_the_postal_code_of_a_refused_parcel_is_one_that_no_carrier_serves(orders: list[Order]) -> None:
    refused = {order.postal_code for order in orders if order.postal_code.startswith("000")}

    assert refused == {plan.REFUSED_POSTAL_CODE}


@pytest.mark.parametrize(
    ("method", "refused", "cancelled", "scarce", "ends"),
    [
        (plan.PAYS, False, False, False, {Outcome.CONFIRMED}),
        (plan.PAYS, False, True, False, {Outcome.CONFIRMED, Outcome.CUSTOMER}),
        (plan.PAYS, False, False, True, {Outcome.CONFIRMED, Outcome.OUT_OF_STOCK}),
        (plan.PAYS, True, False, False, {Outcome.NOT_SHIPPABLE}),
        (plan.DECLINED, True, False, False, {Outcome.PAYMENT_DECLINED}),
        (plan.DECLINED_AT_CAPTURE, True, False, False, {Outcome.NOT_SHIPPABLE}),
        (plan.DECLINED_AT_CAPTURE, False, False, False, {Outcome.PAYMENT_DECLINED}),
    ],
)
def test_an_order_may_end_only_where_its_way_allows(
    method: str, refused: bool, cancelled: bool, scarce: bool, ends: set[Outcome]
) -> None:
    assert plan.ends_of(method, refused, cancelled, scarce) == ends


def test_a_free_order_is_confirmed_whatever_its_customers_card_does() -> None:
    rows = [row._replace(cents=0) for row in ROWS]
    declined = [order for order in plan.make(rows, SEED).orders if order.payment_method == plan.DECLINED]

    assert declined
    assert all(Outcome.PAYMENT_DECLINED not in order.may_end for order in declined)


def test_there_is_enough_of_everything_but_of_the_scarce_goods(orders: list[Order]) -> None:
    made = plan.make(ROWS, SEED)
    wanted: Counter[int] = Counter()
    for order in orders:
        for line in order.lines:
            wanted[line.unit_cents] += line.quantity
    short = {f"cd-{cents}" for cents, pieces in wanted.items() if made.stock[cents] < pieces}

    assert short == set(made.scarce)
    assert len(short) == plan.SCARCE_ITEMS
    assert all(made.stock[cents] >= 1 for cents in wanted)
