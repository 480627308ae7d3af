"""The audit names whatever is broken on purpose in a finished run: one table, complete to every invariant."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.pavane.audited import Look
from tests.pavane.finished import Run, a_shop
from tests.pavane.mutation import Mutation
from tests.pavane.mutations_of_log import OF_ROWS, OF_THE_LOG
from tests.pavane.mutations_of_orders import OF_ORDERS

ROOT = Path(__file__).parents[2]
MUTATIONS = [*OF_ORDERS, *OF_THE_LOG, *OF_ROWS]


@pytest.fixture(scope="module")
async def finished() -> Look:
    """A shop at rest, in which an order of every kind has ended."""
    return (await a_shop()).look()


def test_a_finished_run_is_clean_and_settled(finished: Look):
    verdicts = Run(finished).look.verdicts().values()

    assert {verdict.name: verdict.violations for verdict in verdicts if not verdict.clean} == {}
    assert sum(verdict.unsettled for verdict in verdicts) == 0


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_is_broken_on_purpose_is_named(finished: Look, mutation: Mutation):
    assert_named(finished, mutation)


def assert_named(look: Look, mutation: Mutation) -> None:
    """Plant it in a copy; the verdict must say the words."""
    run = Run(look)
    mutation.plant(run)

    said = "\n".join(run.look.broken().get(mutation.verdict, ()))

    assert mutation.words.format_map(vars(run)) in said, f"{mutation.verdict} says: {said or 'nothing'}"


def test_every_invariant_is_broken_by_some_mutation_and_all_else_is_a_list(finished: Look):
    verdicts = finished.verdicts()

    lists = {name for name, verdict in verdicts.items() if verdict.lists}
    assert lists == {"parked", "dead-letters"}
    assert {mutation.verdict for mutation in MUTATIONS} == verdicts.keys() - lists


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md"])
def test_as_many_invariants_and_mutations_as_there_are_are_told(finished: Look, page: str):
    text = (ROOT / page).read_text()
    invariants = sum(not verdict.lists for verdict in finished.verdicts().values())

    assert {int(number) for number in re.findall(r"(\d+) invariants", text)} == {invariants}
    assert {int(number) for number in re.findall(r"by (\d+) mutations", text)} <= {len(MUTATIONS)}


def test_what_is_parked_is_listed_and_makes_nothing_broken(finished: Look):
    run = Run(finished)
    run.park("inventory", run.confirmed, run.fact("OrderConfirmed"))

    verdicts = run.look.verdicts()

    assert verdicts["parked"].unsettled == verdicts["parked"].until_redrive == 1
    assert f"about {run.confirmed}: ValueError: planted; waits for a redrive" in verdicts["parked"].notes[0]
    confirmed = verdicts["confirmed-paid-and-sent"]
    assert confirmed.unsettled == confirmed.until_redrive == 1
    assert run.look.broken() == {}
    run.look.now += timedelta(hours=2)
    assert run.look.broken() == {}, "nothing is left that the order is owed"


def test_a_dead_letter_is_listed_and_makes_nothing_broken(finished: Look):
    verdict = finished.verdicts()["dead-letters"]

    assert (verdict.checked, verdict.clean) == (1, True)
    assert "about garbage: Undecodable" in verdict.notes[0]
