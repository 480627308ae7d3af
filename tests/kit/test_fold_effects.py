"""Effects in a batch in memory: asked for round by round, answered in the middle of a decision, or not for now."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from msgspec.structs import replace

from streams.kit.batch import Batches
from streams.kit.events import Answer, Effect, Unanswered, Unasked
from streams.kit.fold import Asked
from streams.kit.lane import Delivery, Draft
from streams.kit.opening import Opener
from streams.kit.service import Said, Service
from tests.kit.counter import Counter, added, make_counter, view
from tests.kit.counter_events import Added, Count, Ring, Rung, Told
from tests.kit.folding import NOON, Batch


@pytest.fixture(scope="module")
async def counter() -> Counter:
    return await make_counter()


@pytest.fixture(scope="module")
async def sharing() -> Counter:
    return await make_counter("sharing", shares=True)


def test_effects_of_all_keys_are_asked_in_one_round(counter: Counter) -> None:
    fold = Batch(counter).asks("a", how="ring").asks("b", how="ring").asks("c").folded()
    assert list(fold.asked) == [(Ring, "a"), (Ring, "b")]
    assert fold.asked[Ring, "a"] == Ring(bell="a")


def test_answers_come_back_to_the_decision_between_what_it_said_before_and_after(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring")
    fold = batch.folded({(Ring, "a"): Rung(number=7)})
    assert not fold.asked
    assert [(fact.amount, fact.note) for fact in batch.said()] == [(0, "before"), (7, "rung"), (0, "after")]
    assert batch.rows.get(Count, "a").total == 7


def test_a_second_record_about_a_row_whose_effect_is_unanswered_waits_for_the_next_round(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring").asks("b", 5).asks("a", 5)
    opened = batch.opened()
    first = batch.again(opened, {})
    assert (len(first.asked), len(batch.said())) == (1, 2)
    second = batch.again(opened, {(Ring, "a"): Rung(number=7)})
    assert not second.asked
    assert batch.rows.get(Count, "a").total == 12
    assert [fact.amount for fact in batch.said() if fact.counter == "a"] == [0, 7, 0, 5]


def test_what_waits_for_an_answer_holds_up_no_question_about_another_row(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring").asks("a", 5).asks("b", how="ring").asks("a", how="ring")
    opened = batch.opened()
    assert list(batch.again(opened, {}).asked) == [(Ring, "a"), (Ring, "b")]
    answered = batch.again(opened, {(Ring, "a"): Rung(number=7), (Ring, "b"): Rung(number=1)})
    assert not answered.asked
    said = [(fact.counter, fact.amount) for fact in batch.said() if fact.amount]
    assert said == [("a", 7), ("a", 5), ("b", 1), ("a", 7)]


def test_a_second_record_that_asks_as_well_is_asked_in_a_round_of_its_own(counter: Counter) -> None:
    service = Service("rounds", states=[Count], says=[Added], world=counter.service.world)

    def ring(count: Count, told: Any) -> Iterator[Said]:
        yield Ring(bell=f"{count.counter}{count.facts}")

    def rung(count: Count, answer: Rung) -> Iterator[Said]:
        yield Added(counter=count.counter, amount=answer.number)

    service.hears(view(counter.requests, Told, "Add"))(ring)
    service.answers(Ring)(rung)
    service.evolves(Added)(added)
    batch = Batch(counter, service=service).asks("a").asks("a")
    opened = batch.opened()
    answers: dict[Asked, Answer] = {}
    rounds = []
    while asked := batch.again(opened, answers).asked:
        rounds.append([key for _, key in asked])
        answers |= {place: Rung(number=1) for place in asked}
    assert rounds == [["a0"], ["a1"]]


def test_a_row_is_asked_for_nobody_when_its_decision_fails_before_the_effect(counter: Counter) -> None:
    assert not Batch(counter).asks("a", how="raise").folded().asked


def test_folding_again_says_the_same_and_nothing_twice(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring").asks("b").asks("a", how="raise").asks("b", how="refuse")
    opened = batch.opened()
    answers: dict[Asked, Answer] = {(Ring, "a"): Rung(number=7)}
    batch.again(opened, {})
    batch.again(opened, answers)
    once = list(batch.draft.said)
    batch.again(opened, answers)
    assert batch.draft.said == once


def test_an_effect_that_is_not_answered_for_now_parks_its_record_alone_to_be_tried_again(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring").asks("a", 1).asks("b", 5)
    batch.folded({(Ring, "a"): Unanswered(reason="busy", retry_after_seconds=0.0)})
    first, behind = batch.draft.parking.added
    assert (first.reason, behind.reason, behind.retry_at) == ("Unanswered", "Behind", None)
    assert first.retry_at is not None
    assert first.retry_at > NOON
    assert [fact.counter for fact in batch.said()] == ["b"]
    assert batch.rows.get(Count, "a").facts == 0
    assert batch.letters == []


@pytest.fixture
def stopping(counter: Counter) -> Service:
    """One that rings a bell for 0. Whatever else is asked calls that off: a negative number with a bell of its own."""
    service = Service("stopping", states=[Count], says=[Added], world=counter.service.world)

    def ring_or_stop(count: Count, told: Any) -> Iterator[Said]:
        if count.note == "stopped":
            return
        if told.amount <= 0:
            yield Ring(bell=f"{count.counter}{told.amount}")
        else:
            yield Added(counter=count.counter, amount=told.amount, note="stopped")

    def rung(count: Count, answer: Rung) -> Iterator[Said]:
        yield Added(counter=count.counter, amount=answer.number, note="stopped" if answer.number < 0 else "")

    def noted(count: Count, fact: Added) -> Count:
        return replace(count, total=count.total + fact.amount, note=fact.note)

    service.hears(view(counter.requests, Told, "Add"), overtakes=True)(ring_or_stop)
    service.answers(Ring)(rung)
    service.evolves(Added)(noted)
    return service


BUSY = Unanswered(reason="busy")
BEGUN = Count(counter="a", note="begun")


def test_what_calls_a_parked_record_off_does_not_wait_behind_it(counter: Counter, stopping: Service) -> None:
    batch = Batch(counter, BEGUN, service=stopping).asks("a", 0).asks("a", 5)
    batch.folded({(Ring, "a0"): BUSY})
    [first] = batch.draft.parking.added
    assert (first.reason, [fact.amount for fact in batch.said()]) == ("Unanswered", [5])

    batch.lane.adopt(batch.draft)
    batch.rows.give(Count, [*batch.rows.own()], [])
    batch.tries_again(first)
    assert (batch.said(), batch.draft.parking.held) == ([], {}), "there is nothing to ring for any more"


def test_what_calls_off_waits_while_nothing_was_said_about_its_row(counter: Counter, stopping: Service) -> None:
    batch = Batch(counter, service=stopping).asks("a", 0).asks("a", 5)
    batch.folded({(Ring, "a0"): BUSY})
    assert [each.reason for each in batch.draft.parking.added] == ["Unanswered", "Behind"]
    assert batch.said() == []


def test_while_what_calls_off_is_not_answered_the_first_one_is_not_tried(counter: Counter, stopping: Service) -> None:
    batch = Batch(counter, BEGUN, service=stopping).asks("a", 0)
    batch.folded({(Ring, "a0"): BUSY})
    [first] = batch.draft.parking.added
    batch.lane.adopt(batch.draft)
    batch.draft = Draft(batch.lane, [], {})

    opened = batch.asks("a", -1).opened()
    again = Delivery(first.record, first.envelope, first)
    opened += Opener(stopping, counter.codec, lambda key: 0).open(Draft(batch.lane, [again], {}))
    assert [*batch.again(opened, {}).asked] == [(Ring, "a-1")]
    fold = batch.again(opened, {(Ring, "a-1"): BUSY})
    assert (fold.asked, fold.released) == ({}, []), "the first one is not tried with it"
    [stop] = batch.draft.parking.added
    assert (stop.reason, batch.draft.parking.held) == ("Unanswered", {"a": 2})
    assert stop.retry_at is not None


def test_an_effect_that_was_not_asked_yet_parks_a_new_record_as_never_tried_and_comes_with_the_next_batch(
    counter: Counter,
) -> None:
    batch = Batch(counter).asks("a", how="ring").asks("b", 5)
    batch.folded({(Ring, "a"): Unasked(reason="others came first")})
    [first] = batch.draft.parking.added
    assert (first.reason, first.attempts, first.retry_at) == ("Unanswered", 0, NOON)
    assert [fact.counter for fact in batch.said()] == ["b"]


def test_a_parked_record_whose_effect_was_not_asked_stays_as_it_is(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring")
    batch.folded({(Ring, "a"): Unanswered(reason="busy")})
    batch.tries_again(batch.draft.parking.added[0], {(Ring, "a"): Unasked(reason="others came first")})
    assert batch.draft.parking.is_empty
    assert batch.said() == []


async def test_what_is_tried_again_is_asked_for_before_what_is_new(counter: Counter) -> None:
    batch = Batch(counter).asks("old", how="ring")
    batch.folded({(Ring, "old"): Unanswered(reason="busy")})
    old = batch.draft.parking.added[0]
    old = replace(old, retry_at=NOON - timedelta(seconds=1))
    draft = batch.asks("new", how="ring").lane.order(100)
    draft.deliveries = [draft.deliveries[-1], Delivery(old.record, old.envelope, old)]
    asked: list[str] = []

    class Seen(Exception):
        pass

    class World:
        async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
            asked.extend(effect.key for effect in effects)
            raise Seen

    class Store:
        async def load(self, wanted: object) -> dict[Any, Any]:
            return {}

    batches = Batches(counter.service, counter.codec, cast("Any", Store()), World(), lambda key: 0, lambda: NOON)
    with pytest.raises(Seen):
        await batches.run([draft], {0: 0})
    assert asked == ["old", "new"]


def test_what_was_said_before_an_answer_that_cannot_be_decided_is_taken_back(counter: Counter) -> None:
    batch = Batch(counter).asks("a", how="ring").asks("b", 5)
    batch.folded({(Ring, "a"): Rung(number=-1)})
    assert [(fact.counter, fact.amount) for fact in batch.said()] == [("b", 5)]
    assert batch.rows.get(Count, "a").facts == 0
    assert [letter["dead_letter_reason"] for letter in batch.letters] == [b"Undecidable"]
