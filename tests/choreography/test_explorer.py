"""Every interleaving of the real decisions keeps every promise. `pavane explore --two` shows the same with figures."""

from itertools import combinations_with_replacement

import pytest

from choreography.explored import CONTENDERS, Explored, explore, unreached
from choreography.scenarios import CUSTOMERS
from contracts.views import services

SERVICES = list(services())


def _kept(explored: Explored) -> None:
    assert explored.walked.violation is None, f"{explored.walked.violation.what}\n\n{explored.test}"


#: Whose walks take tens of seconds: they meet every service and every fault.
LONG = ("pays", "is declined at capture", "lives where no carrier goes")
EACH = [pytest.param(each, marks=[pytest.mark.slow] if each in LONG else []) for each in CUSTOMERS]


@pytest.mark.parametrize("customer", EACH)
def test_an_order_keeps_every_promise_whatever_happens_in_whatever_order(customer: str) -> None:
    explored = explore(SERVICES, (customer,))

    _kept(explored)
    assert explored.walked.ends > 10


@pytest.mark.parametrize("customer", CUSTOMERS)
def test_an_order_keeps_every_promise_in_whatever_order_when_nothing_fails(customer: str) -> None:
    _kept(explore(SERVICES, (customer,), faults=False))


@pytest.mark.parametrize("pair", list(combinations_with_replacement(CONTENDERS, 2)), ids=" and ".join)
def test_two_orders_over_one_last_item_keep_every_promise_without_faults(pair: tuple[str, str]) -> None:
    _kept(explore(SERVICES, pair, faults=False))


@pytest.mark.slow
@pytest.mark.parametrize("pair", list(combinations_with_replacement(CONTENDERS, 2)), ids=" and ".join)
def test_two_orders_over_one_last_item_keep_every_promise_with_every_fault(pair: tuple[str, str]) -> None:
    _kept(explore(SERVICES, pair))


def test_every_declared_reaction_fact_and_answer_is_reached() -> None:
    walked = [explore(SERVICES, (customer,), faults=False) for customer in CUSTOMERS]

    assert unreached(SERVICES, walked) == []


def test_shortcuts_keep_every_end_of_two_orders() -> None:
    """Alone and together, an order ends in the same ways: what the shortcuts of two orders leave out is no end."""
    pair = explore(SERVICES, ("pays", "is declined"), faults=False).walked
    alone = [explore(SERVICES, (customer,), faults=False).walked for customer in ("pays", "is declined")]

    assert pair.reached >= alone[0].reached | alone[1].reached
    assert pair.ends >= max(each.ends for each in alone)
