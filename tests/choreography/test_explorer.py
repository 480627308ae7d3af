"""Every interleaving of the real decisions keeps every promise. `pavane explore --two` shows the same with figures."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, cast

import pytest

from choreography.explored import CONTENDERS, Explored, explore, unreached
from choreography.exploring import Explorer
from choreography.lanes import Lane, Move, Step
from choreography.scenarios import CUSTOMERS
from contracts.views import services

SERVICES = list(services())


@cache
def walked(*customers: str) -> Explored:
    """Their orders, when nothing fails."""
    return explore(SERVICES, customers, faults=False)


def _kept(explored: Explored) -> None:
    assert explored.walked.violation is None, f"{explored.walked.violation.what}\n\n{explored.test}"


#: Whose walks take seconds and more: they meet every service and every fault.
LONG = ("pays", "is declined", "is declined at capture", "lives where no carrier goes")
EACH = [pytest.param(each, marks=[pytest.mark.slow] if each in LONG else []) for each in CUSTOMERS]
TWO = list(combinations_with_replacement(CONTENDERS, 2))
#: How many states the walks with every fault have: one that ended early would find nothing, too.
STATES_OF_ONE = {
    "pays": 33_211,
    "is declined": 12_307,
    "is declined at capture": 32_939,
    "lives where no carrier goes": 21_563,
    "orders what is free": 4_697,
    "orders more than there is": 6_251,
    "orders what has no price": 13,
}
STATES_OF_TWO = {
    ("pays", "pays"): 192_773,
    ("pays", "is declined"): 132_933,
    ("pays", "is declined at capture"): 185_845,
    ("pays", "lives where no carrier goes"): 156_811,
    ("is declined", "is declined"): 73_093,
    ("is declined", "is declined at capture"): 126_005,
    ("is declined", "lives where no carrier goes"): 96_971,
    ("is declined at capture", "is declined at capture"): 178_917,
    ("is declined at capture", "lives where no carrier goes"): 149_883,
    ("lives where no carrier goes", "lives where no carrier goes"): 120_849,
}
README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("customer", EACH)
def test_an_order_keeps_every_promise_whatever_happens_in_whatever_order(customer: str) -> None:
    explored = explore(SERVICES, (customer,))

    _kept(explored)
    assert explored.walked.states == STATES_OF_ONE[customer]


@pytest.mark.parametrize("customer", CUSTOMERS)
def test_an_order_keeps_every_promise_in_whatever_order_when_nothing_fails(customer: str) -> None:
    _kept(walked(customer))


@pytest.mark.parametrize(
    "pair",
    [pytest.param(each, marks=[pytest.mark.slow] if number else []) for number, each in enumerate(TWO)],
    ids=" and ".join,
)
def test_two_orders_over_one_last_item_keep_every_promise_without_faults(pair: tuple[str, str]) -> None:
    _kept(walked(*pair))


@pytest.mark.slow
@pytest.mark.parametrize("pair", TWO, ids=" and ".join)
def test_two_orders_over_one_last_item_keep_every_promise_with_every_fault(pair: tuple[str, str]) -> None:
    explored = explore(SERVICES, pair)

    _kept(explored)
    assert explored.walked.states == STATES_OF_TWO[pair]


def test_the_readme_has_the_number_of_states_that_are_walked() -> None:
    told = README.read_text()
    assert f"{sum(STATES_OF_ONE.values()):,} states" in told
    assert f"{sum(STATES_OF_TWO.values()):,} states" in told


def test_every_declared_reaction_fact_and_answer_is_reached() -> None:
    assert unreached(SERVICES, map(walked, CUSTOMERS)) == []


def test_shortcuts_keep_every_end_of_two_orders() -> None:
    """Alone and together, an order ends in the same ways: what the shortcuts of two orders leave out is no end."""
    pair = walked("pays", "is declined").walked
    alone = [walked(customer).walked for customer in ("pays", "is declined")]

    assert pair.reached >= alone[0].reached | alone[1].reached
    assert pair.ends >= max(each.ends for each in alone)


class Late:
    """A dance in lanes alone: each of two orders takes a piece if one is left. The second does so only when a late
    question arrives, which seems to change nothing until all that is asked of the world is known."""

    def __init__(self) -> None:
        self.dancers = self.lanes = self
        self.start = [_lane("first"), _lane("second")]
        self.shared = 1
        self.effect_count = 0
        self.reached: set[tuple[str, str]] = set()

    def steps(self, lane: Lane, shared: int, *, faults: bool) -> Iterator[Step]:
        if lane == _lane("first") or (lane == _lane("second") and self.effect_count):
            after = _lane("has one" if shared else "goes without")
            yield Step(Move("land", 0, 0), after, max(0, shared - 1), reads=True, writes=True)
        elif faults and lane == _lane("has one"):
            self.effect_count = 1

    def rows_beside_shared(self, lane: Lane) -> Iterable[int]:
        return ()

    def always(self, shared: int) -> str:
        return ""

    def at_end(self, lanes: Sequence[Lane], shared: int, others: Iterable[int] = ()) -> str:
        return "an order goes without" if _lane("goes without") in lanes else ""


def _lane(order: str) -> Lane:
    return Lane(cast("Any", order), (), ())


def test_what_an_order_may_still_do_is_judged_anew_when_more_is_known_to_be_asked() -> None:
    violation = Explorer(cast("Any", Late())).walk().violation

    assert violation is not None
    assert violation.what == "an order goes without"
