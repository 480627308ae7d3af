"""A batch in memory: every record has all its consequences or none."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from streams.kit import envelope
from streams.kit.fold import MOST_FACT_BYTES, wanted
from streams.kit.parking import BEHIND, DISCARDED, REBUILT, UNANSWERED, UNREAD
from streams.kit.rows import RowMissing, Rows
from streams.kit.service import Reads, Said, Service
from tests.kit.counter import Counter, added, make_counter, view
from tests.kit.counter_events import Added, Count, Entry, Expired, Postponed, Ring, Rung, Told, Total
from tests.kit.folding import NOON, Batch


@pytest.fixture(scope="module")
async def counter() -> Counter:
    return await make_counter()


@pytest.fixture(scope="module")
async def sharing() -> Counter:
    return await make_counter("sharing", shares=True)


def test_facts_are_said_and_folded_in_the_order_of_the_records(counter: Counter) -> None:
    batch = Batch(counter).asks("a", 1).asks("b", 10).asks("a", 2)
    batch.folded()
    assert [(fact.counter, fact.amount) for fact in batch.said()] == [("a", 1), ("b", 10), ("a", 2)]
    assert (batch.rows.get(Count, "a").total, batch.rows.get(Count, "b").total) == (3, 10)
    assert [envelope.read(fact.headers).sequence for fact in batch.draft.said] == [1, 2, 3]


def test_a_record_of_a_later_batch_finds_what_an_earlier_one_made(counter: Counter) -> None:
    batch = Batch(counter, Count(counter="a", total=5, facts=1)).asks("a", 2)
    batch.folded()
    assert batch.rows.get(Count, "a").total == 7


FAILURES = {
    "raise": ("ZeroDivisionError", "divides by zero"),
    "refuse": ("Refused", "not today"),
    "undeclared": ("Undecidable", "does not declare that it says Unsaid"),
    "other key": ("Undecidable", "is about 'a-other', but the record that it answers is about 'a'"),
    "huge": ("Undecidable", f"a fact may take {MOST_FACT_BYTES}"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_record_that_cannot_be_decided_changes_nothing_and_is_put_aside_with_the_reason(
    counter: Counter, how: str
) -> None:
    reason, words = FAILURES[how]
    batch = Batch(counter).asks("b", 1).asks("a", 2, how=how).asks("b", 3)
    fold = batch.folded()
    assert [fact.amount for fact in batch.said()] == [1, 3]
    assert (batch.rows.get(Count, "a"), batch.rows.get(Count, "b").total) == (Count(counter="a", partition=-1), 4)
    [letter] = batch.letters
    assert letter["dead_letter_reason"].decode() == reason
    assert words in letter["dead_letter_message"].decode()
    assert letter["dead_letter_origin"].decode() == f"{counter.requests}/0/1"
    assert [type(error).__name__ for _, error in fold.put_aside] == [reason]


def test_the_dead_letter_of_a_decision_that_raised_shows_where(counter: Counter) -> None:
    raised, refused = Batch(counter).asks("a", how="raise"), Batch(counter).asks("a", how="refuse")
    raised.folded()
    refused.folded()
    assert b'raise ZeroDivisionError("the decision divides by zero")' in raised.letters[0]["dead_letter_stack"]
    assert refused.letters[0]["dead_letter_stack"] == b""


def test_sequences_have_no_hole_where_a_record_was_put_aside(counter: Counter) -> None:
    batch = Batch(counter).asks("a").asks("b", how="raise").asks("a")
    batch.folded()
    said = [envelope.read(fact.headers) for fact in batch.draft.said if fact.topic == counter.name]
    assert [each.sequence for each in said] == [1, 2]
    assert said[1].heard == {counter.requests: 3}


def test_what_comes_after_a_failed_decision_about_the_same_key_waits_behind_it(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="raise").asks("a", 5).asks("b", 7)
    batch.folded()
    assert [(fact.counter, fact.amount) for fact in batch.said()] == [("b", 7)]
    assert [each.reason for each in batch.draft.parking.added] == ["ZeroDivisionError", "Behind"]
    assert batch.draft.parking.held == {"a": 2}


@pytest.mark.parametrize("how", ["refuse", "undeclared"])
def test_a_request_that_is_itself_wrong_holds_nobody(counter: Counter, how: str) -> None:
    batch = Batch(counter).asks("a", how=how).asks("a", 5)
    batch.folded()
    assert [fact.amount for fact in batch.said()] == [5]
    assert batch.draft.parking.held == {}


@pytest.mark.parametrize(
    ("waited", "letters"),
    [(BEHIND, 1), (UNREAD, 1), (UNANSWERED, 1), (REBUILT, 1), ("Refused", 0), ("KeyError", 0)],
)
def test_a_request_that_waited_and_is_wrong_itself_holds_nobody_and_has_one_dead_letter(
    counter: Counter, waited: str, letters: int
) -> None:
    batch = Batch(counter).asks("a", how="refuse")
    batch.folded()
    [before] = batch.draft.parking.added
    batch.lane.held = {"a": 2}
    again = batch.tries_again(replace(before, holds=True, reason=waited))
    [tried] = again.draft.parking.tried
    assert (tried.number, tried.holds, tried.reason, tried.attempts) == (before.number, False, "Refused", 2)
    assert (again.draft.parking.held, again.draft.parking.freed) == ({"a": 1}, ["a"])
    assert [letter["dead_letter_reason"] for letter in again.letters] == [b"Refused"] * letters


def test_what_an_operator_discards_has_a_dead_letter_that_says_so(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="raise")
    batch.folded()
    [before] = batch.draft.parking.added
    batch.lane.held = {"a": 1}
    again = batch.tries_again(replace(before, reason=DISCARDED, message="of a test shop"))
    assert [(each.number, again.draft.parking.held) for each in again.draft.parking.released] == [(before.number, {})]
    [letter] = again.letters
    assert (letter["dead_letter_reason"], letter["dead_letter_message"]) == (b"Discarded", b"of a test shop")
    assert letter["dead_letter_origin"].decode() == f"{counter.requests}/0/0"


def test_bytes_that_are_no_event_are_put_aside_as_they_came(counter: Counter) -> None:
    batch = Batch(counter).record("a", b"garbage").asks("b", 1)
    batch.folded()
    [letter] = batch.letters
    assert letter["dead_letter_reason"] == b"Undecodable"
    assert [fact.value for fact in batch.draft.said if fact.topic != counter.name] == [b"garbage"]
    assert len(batch.said()) == 1


# -- rows --------------------------------------------------------------------------------------------------------------


def test_a_row_that_turns_out_to_be_needed_is_asked_for(counter: Counter) -> None:
    batch = Batch(counter).asks("a")
    batch.rows = Rows()
    with pytest.raises(RowMissing) as missing:
        batch.folded()
    assert (missing.value.state, missing.value.key) == (Count, "a")


def test_shared_rows_are_folded_from_several_records_and_append_only_ones_are_written(sharing: Counter) -> None:
    batch = Batch(sharing).asks("a", 5, into="x,y").asks("b", -2, into="x")
    batch.folded()
    assert (batch.rows.get(Total, "x").amount, batch.rows.get(Total, "y").amount) == (3, 5)


def test_the_append_only_row_of_a_fact_is_made(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring")
    batch.folded({(Ring, "a"): Rung(number=7)})
    assert batch.rows.get(Entry, "a/rung").amount == 7


def test_a_projection_folds_what_it_hears_and_says_nothing(counter: Counter) -> None:
    projection = Service("view", states=[Count])
    projection.evolves(view(counter.requests, Told, "Add"))(told_added)
    batch = Batch(counter, service=projection).asks("a", 4).asks("a", 5)
    batch.folded()
    assert (batch.rows.get(Count, "a").total, batch.draft.said) == (9, [])


def told_added(count: Count, told: Any) -> Count:
    return replace(count, total=count.total + told.amount)


# -- deadlines ---------------------------------------------------------------------------------------------------------


def test_a_deadline_is_decided_by_its_row(counter: Counter) -> None:
    batch = Batch(counter, Count(counter="a", due_at=NOON)).due("a")
    fold = batch.folded()
    assert ([fact.counter for fact in batch.said(Expired)], fold.put_aside) == (["a"], [])
    assert batch.rows.get(Count, "a").due_at is None
    assert batch.draft.clock == {counter.name: 1}


def test_a_deadline_that_its_decision_neither_moves_nor_clears_is_put_aside(counter: Counter) -> None:
    batch = Batch(counter, Count(counter="a", due_at=NOON, note="stuck")).due("a")
    batch.folded()
    assert b"neither" in batch.letters[0]["dead_letter_message"]


def test_a_deadline_may_be_set_by_time_that_the_record_carries(counter: Counter) -> None:
    batch = Batch(counter).asks("a", 1500, how="later")
    batch.folded()
    assert batch.rows.get(Count, "a").due_at == NOON + timedelta(seconds=1.5)
    assert batch.draft.names == [Postponed.__name__]


# -- what to load --------------------------------------------------------------------------------------------------


def test_own_rows_are_wanted_before_the_fold_and_shared_ones_once_these_are_there(sharing: Counter) -> None:
    batch = Batch(sharing).asks("a", into="x,y").asks("b", into="x")
    opened = batch.opened()
    assert wanted(sharing.service, opened, shared=False, rows=batch.rows) == {Count: {"a", "b"}}
    assert wanted(sharing.service, opened, shared=True, rows=batch.rows) == {Total: {"x", "y"}}


def test_a_record_that_will_fail_wants_no_more_than_its_own_row(sharing: Counter) -> None:
    batch = Batch(sharing).asks("a", how="raise", into="x").record("b", b"garbage")
    opened = batch.opened()
    assert wanted(sharing.service, opened, shared=False, rows=batch.rows) == {Count: {"a"}}
    assert wanted(sharing.service, opened, shared=True, rows=batch.rows) == {}


def test_rows_of_other_keys_are_read_where_the_decision_declares_it(counter: Counter) -> None:
    service = Service("reading", states=[Count], says=[Added])

    def copy(count: Count, asked: Any, read: dict[str, Count]) -> Iterator[Said]:
        yield Added(counter=count.counter, amount=read["other"].total)

    service.hears(view(counter.requests, Told, "Add"), reads=Reads(Count, lambda event: ["other"]))(copy)
    service.evolves(Added)(added)
    batch = Batch(counter, Count(counter="other", total=42), service=service).asks("a")
    opened = batch.opened()
    assert wanted(service, opened, shared=False, rows=batch.rows) == {Count: {"a", "other"}}
    batch.again(opened, {})
    assert batch.rows.get(Count, "a").total == 42
