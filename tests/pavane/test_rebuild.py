"""What a rebuild keeps in memory and says in words; tests/faults/test_lost_database.py proves the rebuild itself."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.addresses import KAFKA, REGISTRY
from pavane.operators.errors import DatabaseUnreadable
from pavane.rebuild import beside, databases, operation
from pavane.rebuild.beside import Begun, Lane
from pavane.rebuild.comparing import Difference
from pavane.rebuild.errors import CannotRebuild, DatabaseGone, UnderWay
from pavane.rebuild.folding import Known, Made
from pavane.rebuild.owed import Handled
from pavane.rebuild.rebuilding import Rebuild
from pavane.rebuild.restoring import Loss, done, question, up_to_a_gap
from pavane.rebuild.standing import LiveLane, Standing
from pavane.rebuild.stretches import Stretch
from pavane.rebuild.swapping import clock_of
from streams.inventory import service as inventory
from streams.kit.rows import Rows
from streams.orders.model import Order, Status
from streams.timeline import service as timeline
from streams.timeline.model import Entry


@given(st.sets(st.text(), max_size=50))
def test_a_key_that_was_added_is_never_denied(keys: set[str]) -> None:
    known = Known()
    known.add(keys)
    assert all(known.may_hold(key) for key in keys)


def test_a_table_without_rows_denies_every_key() -> None:
    assert not Known().may_hold("an-order")


@given(st.sets(st.integers(0, 5_000)), st.sets(st.integers(0, 5_000)))
def test_an_event_is_handled_exactly_if_it_is_some_facts_cause(orders: set[int], shipping: set[int]) -> None:
    handled = Handled({"orders": 5_000, "shipping": 5_000})
    for topic, numbers in (("orders", orders), ("shipping", shipping)):
        for number in numbers:
            handled.add(f"{topic}/3/{number}")
    assert {n for n in range(5_001) if handled.has("orders", n)} == orders
    assert {n for n in range(5_001) if handled.has("shipping", n)} == shipping


def test_a_deadline_is_no_event_of_the_log() -> None:
    handled = Handled({})
    handled.add("orders.due/3/0190-an-order")
    assert not handled.has("orders.due", 190)


def test_what_nobody_had_heard_is_no_facts_cause_and_takes_no_memory() -> None:
    handled = Handled({"orders": 7})
    handled.add("orders/0/100000000000")
    assert not handled.has("orders", 100_000_000_000)


def test_a_row_that_differs_is_told_field_by_field_and_a_newer_one_is_only_counted() -> None:
    found = Difference("orders")
    placed = Order(order_id="a", status=Status.PLACED)
    found.note("a", placed, placed)
    found.note("a", placed, Order(order_id="a", status=Status.CONFIRMED))
    found.note("b", None, placed)
    found.note("c", placed, None)
    assert (found.newer, found.changed, found.missing, found.unexplained, found.differing) == (1, 1, 1, 1, 3)
    assert found.shown[0] == (
        "orders a: status is <Status.PLACED: 'placed'>, the facts make it <Status.CONFIRMED: 'confirmed'>"
    )


def test_json_is_compared_by_what_it_says() -> None:
    found = Difference("entries")
    live = Entry(id="e", ordinal=7, detail=msgspec.Raw(b'{"amount": 5, "currency": "EUR"}'))
    found.note("e", live, Entry(id="e", ordinal=8, detail=msgspec.Raw(b'{"currency":"EUR","amount":5}')))
    assert (found.newer, found.changed) == (1, 0)

    found.note("e", live, Entry(id="e", detail=msgspec.Raw(b'{"currency":"EUR","amount":6}')))
    assert found.shown == [
        "entries e: detail is {'amount': 5, 'currency': 'EUR'}, the facts make it {'currency': 'EUR', 'amount': 6}"
    ]


def test_rows_are_not_compared_with_those_of_a_view_that_has_parked_records_since() -> None:
    live = Standing({0: LiveLane(0, 4, {}, {})}, frozenset({("orders", 0, 7)}))
    live.expect_parked(timeline, Begun("code", live.parked))
    with pytest.raises(CannotRebuild, match="timeline has parked records, or handled parked ones"):
        live.expect_parked(timeline, Begun("code", frozenset()))


def test_a_rebuild_that_other_code_began_is_not_gone_on_with_whatever_of_it_changed() -> None:
    kit = {f"streams.kit/{name}" for name in ("fold.py", "keys.py", "codec.py", "versions/0001_lanes_and_outbox.py")}
    others = {"streams.timeline/service.py", "pavane.rebuild/folding.py", "pavane/rehearing.py"}
    assert kit | others <= beside.files_of(timeline).keys()


def test_a_database_is_behind_by_the_facts_that_only_its_topic_knows() -> None:
    fresh = {lane: Lane(lane, {}, {"inventory": 7}, 9) for lane in range(3)}
    known = {0: LiveLane(0, 4, {}, {"inventory": 7}), 1: LiveLane(1, 4, {}, {"inventory": 5, "orders": 9})}
    assert Standing(known, frozenset()).behind(inventory, fresh) == {1: 2, 2: 7}


@pytest.mark.parametrize(
    ("why", "raised"),
    [
        ('connection to server at "database.shop", port 5432: FATAL: role "x" does not exist', DatabaseUnreadable),
        ('connection to server at "db.shop", port 5432: FATAL: database "x" does not exist', DatabaseGone),
    ],
)
async def test_a_database_is_lost_when_the_server_says_so_whatever_the_server_is_called(
    why: str, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise psycopg.OperationalError(why)

    monkeypatch.setattr(psycopg, "connect", refuse)
    with pytest.raises(raised):
        await databases.expect_whole("billing", {"PAVANE_DATABASE_BILLING": "postgresql://x"}, may_be_behind=False)


@pytest.mark.parametrize("missing", [REGISTRY, "PAVANE_DATABASE_BILLING"])
async def test_a_variable_that_a_rebuild_lacks_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (KAFKA, REGISTRY, "PAVANE_DATABASE_BILLING"):
        monkeypatch.setenv(variable, "x")
    monkeypatch.delenv(missing)
    async with AsyncExitStack() as stack:
        with pytest.raises(CannotRebuild, match=rf"^{missing} \(.*\) is not set"):
            await Rebuild.at("billing", Path(), stack)


class MovedMeanwhile:
    """A connection to fresh tables whose lanes are not any more where they were."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def transaction(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def execute(self, _: str, values: tuple[object, ...]) -> SimpleNamespace:
        self.asked.append(values)
        return SimpleNamespace(rowcount=0)


async def test_what_was_said_while_somebody_thought_about_it_is_folded_before_the_lanes_stand_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Rebuilding:
        async def fill(self, processes: int, tell: object) -> None:
            done.append("filled")

    class ChangingOver:
        def __init__(self, rebuild: object) -> None: ...

        async def carry_out(self, who: str, why: str) -> list[str]:
            done.append("changed over")
            return []

    async def agrees(question: str) -> bool:
        done.append("asked")
        return True

    monkeypatch.setattr(operation, "agreed", agrees)
    monkeypatch.setattr(operation, "Swap", ChangingOver)
    wish = operation.Wish("billing", True, "why", "ada", dry_run=False, restart=False, processes=2, yes=False)
    await operation.Operation(wish, Path())._swap(cast("Rebuild", Rebuilding()), 0)

    assert done == ["asked", "filled", "changed over"]


async def test_a_lane_that_another_rebuild_has_moved_is_not_written_twice() -> None:
    connection = MovedMeanwhile()
    stretch = Stretch((), {"inventory": 2_000}, {"inventory": 1_990}, 1_000)
    before = Lane(0, {"inventory": 1_000}, {"inventory": 990}, 1_000)

    with pytest.raises(UnderWay, match="another rebuild of inventory is under way"):
        await beside.write(cast("beside.Connection", connection), "inventory", before, stretch, Made(Rows(), set()))

    assert len(connection.asked) == 1, "no row was written"


def test_what_the_live_view_heard_and_its_fresh_rows_did_not_is_heard_again() -> None:
    live = {"orders": 5, "inventory": 1, "timeline.dead-letters": 3}
    assert clock_of(timeline, live, {"orders": 1}) == {"orders": 1, "timeline.dead-letters": 3}


def test_what_the_outbox_does_not_hold_any_more_is_gone() -> None:
    loss = Loss(partition=2, last=90, said=100, first_kept=96, row=41, end=90)
    assert list(loss.gone) == [91, 92, 93, 94, 95]
    assert loss.told("billing") == (
        "billing/2: the log ends with fact 90 of 100; 5 facts will be said again; facts 91 to 95 are gone."
    )
    assert not loss._replace(first_kept=91).gone
    assert list(loss._replace(given_up=93).gone) == [94, 95], "of the others somebody has decided"


@pytest.mark.parametrize(
    ("sequences", "starts", "found"),
    [
        ([1, 2, 3], True, (3, set())),
        ([], True, (0, set())),
        ([4, 5], True, (0, {4, 5})),
        ([1, 2, 5, 6, 2, 6], True, (2, {5, 6})),
        ([1, 5, 2, 3, 4, 5], True, (5, set())),
        ([41, 42, 41, 43], False, (43, set())),
        ([41, 45], False, (41, {45})),
    ],
)
def test_facts_behind_a_gap_are_strays_until_they_are_said_again(
    sequences: list[int], starts: bool, found: tuple[int, set[int]]
) -> None:
    assert up_to_a_gap(sequences, starts=starts) == found


@pytest.mark.parametrize(
    ("sequences", "found"),
    [([4, 5, 6], (6, set())), ([1, 4, 5], (5, set())), ([4, 5, 8], (5, {8})), ([5, 6], (0, {5, 6}))],
)
def test_facts_that_were_given_up_are_no_gap(sequences: list[int], found: tuple[int, set[int]]) -> None:
    assert up_to_a_gap(sequences, starts=True, given_up=3) == found


def test_strays_that_nobody_would_say_again_are_not_deleted() -> None:
    loss = Loss(partition=2, last=0, said=100, first_kept=60, row=41, end=92, strays=frozenset(range(61, 101)))
    assert loss.begins_anew
    assert not loss._replace(strays=frozenset({59, 60})).begins_anew
    assert not loss._replace(strays=frozenset()).begins_anew


@pytest.mark.parametrize(("last", "becomes"), [(0, "deleted from it"), (90, "notes them there")])
def test_what_becomes_of_strays_is_told(last: int, becomes: str) -> None:
    loss = Loss(partition=2, last=last, said=100, first_kept=last + 1, row=41, end=92, strays=frozenset({95, 96}))
    assert "has 2 facts from behind the gap" in loss.told("billing")
    assert becomes in loss.told("billing")


@pytest.mark.parametrize(
    ("first_kept", "asked", "told"),
    [
        (91, "Say them again?", "The lanes' owners say them again."),
        (96, "Say again what is kept, and give up the rest?", "The lanes' owners say them again."),
        (101, "Give them up?", "The lanes go on without them."),
    ],
)
def test_who_restores_a_log_is_asked_for_what_will_be_done_and_told_what_it_means(
    first_kept: int, asked: str, told: str
) -> None:
    losses = [Loss(partition=2, last=90, said=100, first_kept=first_kept, row=41, end=90)]

    assert question(losses) == asked
    first, *others = done("billing", losses)
    assert told in first
    assert [True for line in others if "back them up now" in line] == [True] * bool(losses[0].gone)
