"""What a lane takes from its topics, in which order, and when it refuses to go on."""

from collections.abc import Mapping, Sequence

import pytest
from msgspec.structs import replace

from streams.kit import clock, envelope
from streams.kit.errors import ForeignWriter, SequenceGap
from streams.kit.lane import Draft, Holding, Lane
from streams.kit.log import Record
from tests.kit.planting import Bug, planted

TOPICS = ("left", "me.requests", "right")
FRESH = Holding(1, {}, {}, 0, 0)
CAUSE = envelope.of_request("me.requests", 0, 0, [])


def lane(holding: Holding = FRESH, topics: Sequence[str] = TOPICS) -> Lane:
    return Lane("me", 0, topics, holding)


def fact(topic: str, sequence: int, knowing: Mapping[str, int] = {}, offset: int | None = None) -> Record:
    headers = envelope.write(topic, 0, sequence, "Told", knowing, CAUSE)
    return Record(topic, 0, sequence - 1 if offset is None else offset, 0, b"k", b"v", headers)


def request(offset: int) -> Record:
    return Record("me.requests", 0, offset, 0, b"k", b"v", ())


def push(lane: Lane, *records: Record) -> Lane:
    for record in records:
        lane.push(record)
    return lane


def heard(draft: Draft) -> list[str]:
    return [delivery.envelope.id for delivery in draft.deliveries]


def test_topics_are_taken_in_turn_and_each_in_its_order() -> None:
    draft = push(lane(), fact("left", 1), fact("left", 2), fact("right", 1), fact("right", 2), request(0)).order(10)
    assert heard(draft) == ["left/0/1", "me.requests/0/0", "right/0/1", "left/0/2", "right/0/2"]
    assert draft.positions == {"left": 2, "me.requests": 1, "right": 2}


def test_a_fact_waits_for_its_causes_and_is_taken_as_soon_as_they_are() -> None:
    draft = push(lane(), fact("left", 1, {"right": 2}), fact("right", 1), fact("right", 2), fact("right", 3)).order(10)
    assert heard(draft)[:3] == ["right/0/1", "right/0/2", "left/0/1"]
    assert set(heard(draft)) == {"right/0/1", "right/0/2", "right/0/3", "left/0/1"}


def test_who_knows_of_our_requests_knows_it_from_us_and_waits_for_none_that_a_topic_made_anew_does_not_have() -> None:
    skipped = Holding(2, {"left": 0, "me.requests": 4, "right": 0}, {"me": 9, "me.requests": 4}, 0, 0)
    draft = push(lane(skipped), fact("left", 1, {"me.requests": 1_000, "right": 1}), fact("right", 1)).order(10)
    assert heard(draft) == ["right/0/1", "left/0/1"]


def test_two_topics_may_wait_for_each_other_in_turn() -> None:
    records = [
        fact("left", 1, {"right": 1}), fact("left", 2, {"right": 2}),
        fact("right", 1), fact("right", 2, {"left": 1}), fact("right", 3, {"left": 2}),
    ]  # fmt: skip
    assert heard(push(lane(), *records).order(10)) == ["right/0/1", "left/0/1", "right/0/2", "left/0/2", "right/0/3"]


def test_a_fact_whose_causes_did_not_come_yet_stays_queued_and_the_lane_is_not_ready() -> None:
    waiting = push(lane(), fact("left", 1, {"right": 1}))
    draft = waiting.order(10)
    assert (heard(draft), draft.moved, waiting.ready, waiting.held_back()) == ([], False, False, 1)
    push(waiting, fact("right", 1))
    assert waiting.ready
    assert heard(waiting.order(10)) == ["right/0/1", "left/0/1"]


def test_known_facts_are_passed_over_and_positions_move_over_them() -> None:
    again = push(lane(Holding(1, {"left": 0}, {"left": 2}, 0, 0)), fact("left", 1), fact("left", 2), fact("left", 3))
    draft = again.order(10)
    assert (heard(draft), draft.positions["left"], draft.passed_over) == (["left/0/3"], 3, 2)


def test_a_fact_said_again_is_known_wherever_it_appears() -> None:
    again = push(lane(), fact("left", 1), fact("left", 2), fact("left", 1, offset=2), fact("left", 3, offset=3))
    assert heard(again.order(9)) == ["left/0/1", "left/0/2", "left/0/3"]


def test_passing_over_known_facts_alone_moves_the_lane() -> None:
    draft = push(lane(Holding(1, {"left": 0}, {"left": 1}, 0, 0)), fact("left", 1)).order(10)
    assert (heard(draft), draft.moved) == ([], True)


def test_no_more_than_the_limit_is_taken_and_the_rest_stays() -> None:
    busy = push(lane(), *(fact("left", n) for n in range(1, 6)), *(fact("right", n) for n in range(1, 6)))
    draft = busy.order(3)
    assert heard(draft) == ["left/0/1", "right/0/1", "left/0/2"]
    assert (busy.ready, busy.held_back(), busy.queued("left"), busy.queued("right")) == (True, 7, 3, 4)


def test_what_was_read_before_is_passed_over() -> None:
    once = push(lane(), fact("left", 1), fact("left", 2), fact("left", 1), fact("left", 2))
    assert once.held_back() == 2


def test_what_lies_before_the_position_is_passed_over() -> None:
    assert push(lane(Holding(1, {"left": 5}, {"left": 5}, 0, 0)), fact("left", 5)).held_back() == 0


def test_a_gap_halts_the_lane_but_what_came_before_it_is_heard() -> None:
    gap = push(lane(), fact("left", 1), fact("left", 3, offset=1), fact("right", 1))
    assert heard(gap.order(10)) == ["left/0/1", "right/0/1"]
    assert isinstance(gap.halted, SequenceGap)
    assert "left/0 offset 1: sequence 3 follows 1: 1 facts of left are missing" in str(gap.halted)
    assert not gap.ready
    assert heard(gap.order(10)) == []


FOREIGN = {
    "without headers": ("it has no envelope of ours", ()),
    "of another speaker": ("it says that it is right/0/1", envelope.write("right", 0, 1, "Told", {}, CAUSE)),
    "of another partition": ("it says that it is left/1/1", envelope.write("left", 1, 1, "Told", {}, CAUSE)),
    "not text": (
        "no envelope of ours",
        [("ce_id", b"\xff/0/1"), ("clock", b"{}"), ("cause", b""), ("correlation", b"")],
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_record_of_somebody_else_halts_the_lane_but_what_came_before_it_is_heard(what: str) -> None:
    words, headers = FOREIGN[what]
    foreign = push(lane(), fact("left", 1), Record("left", 0, 1, 0, b"k", b"v", headers))
    assert heard(foreign.order(10)) == ["left/0/1"]
    assert isinstance(foreign.halted, ForeignWriter)
    assert "left/0 offset 1" in str(foreign.halted)
    assert words in str(foreign.halted)
    assert "Nothing is lost" in str(foreign.halted)
    assert "at most that one is never heard: 'pavane lanes skip me 0 left --to 2 --reason ...'." in str(foreign.halted)


def test_requests_are_heard_by_their_offsets_whatever_holes_these_have() -> None:
    assert heard(push(lane(), request(0), request(3), request(4)).order(10)) == [
        "me.requests/0/0", "me.requests/0/3", "me.requests/0/4",
    ]  # fmt: skip


def test_a_draft_that_did_not_commit_is_put_back_as_it_was() -> None:
    records = [fact("left", 1), fact("left", 2), fact("right", 1, {"left": 1}), request(0)]
    tried = push(lane(), *records)
    first = tried.order(3)
    tried.put_back(first)
    assert (tried.positions, tried.clock, tried.ready) == (dict.fromkeys(TOPICS, 0), {}, True)
    assert heard(tried.order(3)) == heard(first)


def test_known_facts_are_put_back_too() -> None:
    tried = push(lane(Holding(1, {}, {"left": 1}, 0, 0)), fact("left", 1), fact("left", 2))
    tried.clock["left"] = 1
    first = tried.order(10)
    tried.put_back(first)
    assert tried.held_back() == 2
    assert heard(tried.order(10)) == heard(first)


def test_an_adopted_draft_is_what_the_lane_knows() -> None:
    gone_on = push(lane(), fact("left", 1), fact("left", 2))
    draft = gone_on.order(1)
    for delivery in draft.deliveries:
        draft.hear(delivery)
    draft.say("Said", "k", b"v", 5, CAUSE)
    gone_on.adopt(draft)
    assert (gone_on.positions["left"], gone_on.clock, gone_on.row) == (1, {"left": 1, "me": 1}, 1)
    assert heard(gone_on.order(1)) == ["left/0/2"]


def test_a_draft_that_says_nothing_makes_no_outbox_row() -> None:
    quiet = push(lane(), fact("left", 1))
    quiet.adopt(quiet.order(1))
    assert quiet.row == 0


def test_facts_carry_sequence_and_what_was_heard_until_then() -> None:
    draft = push(lane(Holding(1, {}, {"me": 4}, 0, 0)), fact("left", 1), fact("right", 1)).order(10)
    for delivery in draft.deliveries:
        draft.hear(delivery)
        draft.say("Said", "k", b"v", 5, delivery.envelope)
    first, second = (envelope.read(said.headers) for said in draft.said)
    assert (first.id, first.heard, first.cause) == ("me/0/5", {"left": 1}, "left/0/1")
    assert (second.id, second.heard, second.cause) == ("me/0/6", {"left": 1, "right": 1}, "right/0/1")


def test_what_was_said_since_a_mark_can_be_taken_back() -> None:
    draft = push(lane(), fact("left", 1)).order(10)
    draft.say("Said", "k", b"1", 5, CAUSE)
    mark = draft.mark()
    draft.say("Said", "k", b"2", 5, CAUSE)
    draft.undo(mark)
    draft.say("Said", "k", b"3", 5, CAUSE)
    assert [(envelope.read(said.headers).sequence, said.value) for said in draft.said] == [(1, b"1"), (2, b"3")]


def test_undoing_everything_said_leaves_no_trace() -> None:
    draft = push(lane(), fact("left", 1)).order(10)
    mark = draft.mark()
    draft.say("Said", "k", b"1", 5, CAUSE)
    draft.undo(mark)
    assert (draft.said, draft.names, draft.clock.get("me", 0)) == ([], [], 0)


def test_a_dead_letter_has_the_records_bytes_and_why_and_is_counted_for_its_speaker_alone() -> None:
    record = replace(request(0), headers=[("correlation", b"c"), ("dead_letter_reason", b"an earlier one")])
    draft = push(lane(), record).order(10)
    draft.put_aside(draft.deliveries[0], 5, [("dead_letter_reason", b"Refused")])
    [letter] = draft.said
    headers = dict(letter.headers)
    assert (letter.topic, letter.key, letter.value) == ("me.dead-letters", b"k", b"v")
    assert (headers["correlation"], headers["dead_letter_reason"]) == (b"c", b"Refused")
    assert headers["dead_letter_id"] == b"me.dead-letters/0/1"
    assert headers["dead_letter_origin"] == b"me.requests/0/0"
    assert (draft.names, draft.spoken_clock()) == ([], {})


def test_no_number_of_a_parked_record_comes_again_after_all_were_released() -> None:
    """Who names one that is gone must not mean another one."""
    first = push(lane(), fact("left", 1), fact("left", 2))
    draft = first.order(10)
    for delivery in draft.deliveries:
        draft.hear(delivery)
        draft.parking.add(delivery.record, delivery.envelope, "k", "ValueError", "no")
    numbers = [each.number for each in draft.parking.added]
    next_owner = Lane("me", 0, ["left"], Holding(2, draft.positions, draft.clock, 0, 0, parked=0))
    later = push(next_owner, fact("left", 3)).order(10)
    later.parking.add(later.deliveries[0].record, later.deliveries[0].envelope, "k", "ValueError", "no")
    assert later.parking.added[0].number > max(numbers)


def test_a_topic_heard_for_the_first_time_is_heard_from_its_start() -> None:
    grown = lane(Holding(7, {"left": 3}, {"left": 3, "right": 9, "far": 2}, 0, 0))
    assert (grown.epoch, grown.positions["right"], grown.clock) == (7, 0, {"left": 3, "far": 2})
    assert heard(push(grown, fact("right", 1)).order(10)) == ["right/0/1"]


@planted(
    Bug(
        "the next one is loosened to any above",
        clock,
        "judge",
        "sequence != last + 1",
        "sequence <= last",
        test_a_gap_halts_the_lane_but_what_came_before_it_is_heard,
    ),
    Bug(
        "causes are not waited for",
        clock,
        "judge",
        "is None else Verdict.EARLY",
        "is None else Verdict.NEXT",
        test_a_fact_waits_for_its_causes_and_is_taken_as_soon_as_they_are,
    ),
    Bug(
        "what did not commit is not put back",
        Lane,
        "put_back",
        "extendleft(reversed(deliveries))",
        "extendleft(())",
        test_a_draft_that_did_not_commit_is_put_back_as_it_was,
    ),
)
async def test_a_bug_planted_in_the_lane_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    await bug.is_found()
