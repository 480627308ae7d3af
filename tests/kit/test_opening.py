"""Records from outside: each becomes an event or the reason why not, and nothing that somebody sends can do more."""

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.kit import envelope
from streams.kit.errors import Undecidable, Undecodable
from streams.kit.events import About, Due, Heard
from streams.kit.fold import Fold
from streams.kit.lane import Delivery, Draft, Holding, Lane
from streams.kit.log import Record
from streams.kit.opening import Opened, Opener
from streams.kit.parking import UNREAD, Parked
from streams.kit.rows import Rows
from streams.kit.service import Service
from tests.kit.counter import Counter, declared, make_counter, view
from tests.kit.counter_events import Added, Count

NOON_MS = 1_767_268_800_000
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
async def counter() -> Counter:
    return await make_counter()


def opened(counter: Counter, *records: Record, service: Service | None = None) -> list[Opened]:
    """Records as they are opened in partition 0, where keys of even length belong."""
    service = service or counter.service
    lane = Lane(counter.name, 0, service.topics, Holding(1, {}, {}, 0, 0))
    for record in records:
        lane.push(record)
    return Opener(service, counter.codec, lambda key: len(key) % 2).open(lane.order(100))


def request(counter: Counter, value: bytes | None, key: bytes | None = b"ab", offset: int = 0) -> Record:
    return Record(counter.requests, 0, offset, NOON_MS, key, value, ())


def told(counter: Counter, key: bytes = b"a", sequence: int = 1, **about: str) -> Record:
    cause = envelope.of_request("r", 0, 0, [("correlation", b"c-1")])
    headers = envelope.write(counter.left, 0, sequence, "Told", {}, cause)
    return Record(counter.left, 0, sequence - 1, NOON_MS, key, counter.told("a", 5), headers)


def test_a_record_becomes_the_view_that_the_service_declares(counter: Counter) -> None:
    [one] = opened(counter, request(counter, counter.add("ab", 5)))
    event: Any = one.event
    assert (event.counter, event.amount, event.at) == ("ab", 5, NOON)
    assert (one.key, one.row, one.problem) == ("ab", "ab", None)


def test_events_that_the_service_does_not_read_are_passed_over(counter: Counter) -> None:
    service = Service("narrow", states=[Count])
    service.evolves(view(counter.left, Added))(unchanged)
    [one] = opened(counter, told(counter), service=service)
    assert (one.event, one.problem) == (None, None)


def unchanged(count: Count, event: Any) -> Count:
    return count


PROBLEMS = {
    "no key": (None, "has no key"),
    "an empty key": (b"", "has no key"),
    "a key in another partition": (b"abc", "belongs in partition 1, not 0"),
    "a key that is not UTF-8": (b"\xff\xfe", "not UTF-8"),
    "a key with a zero character": (b"a\0", "control characters"),
    "a key that is too long": (b"x" * 1000, "over 512 bytes"),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_a_request_with_a_wrong_key_is_a_problem_that_is_told(counter: Counter, what: str) -> None:
    key, words = PROBLEMS[what]
    [one] = opened(counter, request(counter, counter.add("ab"), key))
    assert one.event is None
    assert isinstance(one.problem, Undecodable)
    assert words in str(one.problem)


def test_a_fact_is_not_held_to_the_partitioner_since_its_speaker_chose_the_lane(counter: Counter) -> None:
    [one] = opened(counter, told(counter, key=b"a"))
    assert one.problem is None


VALUES = {
    "no value": (None, "starts with nothing"),
    "an empty value": (b"", "starts with b''"),
    "not the wire format": (b"{}", "not in Confluent wire format"),
    "JSON": (b'{"counter": "a"}', "not in Confluent wire format"),
    "a schema that nobody registered": (struct.pack(">bI", 0, 99_999) + b"x", "no schema with id 99999"),
}


@pytest.mark.parametrize("what", VALUES)
def test_bytes_that_are_no_event_are_a_problem_that_is_told(counter: Counter, what: str) -> None:
    value, words = VALUES[what]
    [one] = opened(counter, request(counter, value))
    assert isinstance(one.problem, Undecodable)
    assert words in str(one.problem)


def test_a_cut_record_is_undecodable(counter: Counter) -> None:
    [one] = opened(counter, request(counter, counter.add("ab", 5)[:-4]))
    assert isinstance(one.problem, Undecodable)
    assert "no Add" in str(one.problem)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(max_size=60), after_head=st.booleans())
def test_whatever_bytes_come_they_are_an_event_or_undecidable(
    counter: Counter, garbage: bytes, after_head: bool
) -> None:
    value = counter.add("ab")[:5] + garbage if after_head else garbage
    [one] = opened(counter, request(counter, value))
    assert (one.event is None) == isinstance(one.problem, Undecidable)


def test_a_deadline_is_an_event_of_its_row(counter: Counter) -> None:
    lane = Lane(counter.name, 0, counter.service.topics, Holding(1, {}, {}, 0, 0))
    record = Record(f"{counter.name}.due", 0, 0, NOON_MS, b"a", None, ())
    draft = Draft(lane, [Delivery(record, envelope.of_request(record.topic, 0, 0, []))], {})
    [one] = Opener(counter.service, counter.codec, lambda key: 0).open(draft)
    assert (one.event, one.row) == (Due(at=NOON), "a")


def about_view(topic: str) -> type[Heard]:
    return declared(Heard, "Told", {"counter": str, "about": About}, topic=topic)


def test_a_view_may_ask_for_what_the_envelope_says(counter: Counter) -> None:
    service = Service("view", states=[Count])
    service.evolves(about_view(counter.left))(unchanged)
    first, second = opened(counter, told(counter, sequence=1), told(counter, sequence=2), service=service)
    events: list[Any] = [first.event, second.event]
    assert events[0].about == About(
        id=f"{counter.left}/0/1", name="Told", speaker=counter.left, cause="r/0/0", correlation="c-1", ordinal=1
    )
    assert events[1].about.ordinal == 2


def test_what_a_view_is_told_again_has_the_next_ordinals_also_under_the_next_owner(counter: Counter) -> None:
    """Though parked records, when they are tried again, do not move the clock of who said them."""
    service = Service("view", states=[Count])
    service.evolves(about_view(counter.left))(unchanged)
    opener = Opener(service, counter.codec, lambda key: 0)
    clock = {counter.left: 100}

    def ordinals(*deliveries: Delivery) -> list[int]:
        lane = Lane(service.name, 0, service.topics, Holding(0, {counter.left: 100}, clock, 0, 0))
        draft = Draft(lane, list(deliveries), {})
        opened: list[Any] = opener.open(draft)
        rows = Rows()
        rows.give(Count, [], ["x"])
        Fold(service, counter.codec, rows, {}, NOON_MS).lane(draft, opened)
        clock.update(draft.clock)
        return [one.event.about.ordinal for one in opened]

    def delivery(sequence: int, *, parked: bool = False) -> Delivery:
        record = told(counter, b"x", sequence)
        said = envelope.read(record.headers)
        waited = Parked(1, "x", True, record, said, "ValueError", "no", 1, None)
        return Delivery(record, said, waited if parked else None)

    assert ordinals(delivery(1, parked=True), delivery(2, parked=True)) == [101, 102]
    assert ordinals(delivery(101), delivery(102)) == [103, 104]
    assert ordinals(delivery(3, parked=True), delivery(103)) == [105, 106]


def test_what_an_earlier_version_parked_and_this_one_does_not_hear_is_kept(counter: Counter) -> None:
    service = Service("narrow", states=[Count])
    service.evolves(view(counter.left, Added))(unchanged)
    opener = Opener(service, counter.codec, lambda key: 0)
    record = told(counter)
    said = envelope.read(record.headers)

    def parked(reason: str) -> Opened:
        return opener.one(Delivery(record, said, Parked(1, "a", True, record, said, reason, "", 1, None)), 1)

    assert "does not hear it" in str(parked("Unanswered").problem)
    assert parked("Unanswered").key == "a"
    for reason in (UNREAD, "Undecodable", "Rebuilt"):
        assert parked(reason).problem is None, "it was parked since nobody could tell what it is"


def test_a_key_function_that_fails_is_a_problem_of_its_record(counter: Counter) -> None:
    service = Service("view", states=[Count])
    told_view = about_view(counter.left)
    service.hears(told_view, key=lambda event: event.nothing)(unchanged)
    [one] = opened(counter, told(counter), service=service)
    assert "names no row" in str(one.problem)
