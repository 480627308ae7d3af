"""What a fact carries beside its value comes back as it was written; what others wrote is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.kit import envelope
from streams.kit.envelope import MOST_BYTES, Envelope

names = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
clocks = st.dictionaries(names, st.integers(0, 2**62), max_size=6)
traces = st.none() | st.binary(min_size=1, max_size=60)
CAUSE = Envelope("orders.requests/3/7", "orders.requests", 3, 8, {}, "", "corr", None)


@given(names, st.integers(0, 999), st.integers(1, 2**62), clocks, texts, texts, traces)
def test_what_is_written_is_read_back(
    speaker: str,
    partition: int,
    sequence: int,
    clock: dict[str, int],
    cause: str,
    correlation: str,
    trace: bytes | None,
) -> None:
    answered = replace(CAUSE, id=cause, correlation=correlation, traceparent=trace)

    read = envelope.read(envelope.write(speaker, partition, sequence, "Said", clock, answered))

    others = {who: known for who, known in clock.items() if who != speaker}
    own_id = f"{speaker}/{partition}/{sequence}"
    assert read == Envelope(own_id, speaker, partition, sequence, others, cause, correlation, trace)


@given(clocks)
def test_a_clock_is_read_back(clock: dict[str, int]) -> None:
    assert envelope.read_clock(envelope.write_clock(clock)) == clock


def test_headers_are_those_of_cloud_events_and_few_and_short() -> None:
    headers = envelope.write("billing", 3, 1234, "PaymentAuthorized", {"orders": 12, "billing": 1234}, CAUSE)

    assert headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"billing/3/1234"),
        ("ce_source", b"billing"),
        ("ce_type", b"PaymentAuthorized"),
        ("clock", b'{"orders":12}'),
        ("cause", b"orders.requests/3/7"),
        ("correlation", b"corr"),
    ]


@pytest.mark.parametrize("missing", ["ce_id", "clock", "cause", "correlation"])
def test_a_missing_header_is_named(missing: str) -> None:
    headers = [each for each in envelope.write("billing", 3, 1, "Said", {}, CAUSE) if each[0] != missing]
    with pytest.raises(ValueError, match=missing):
        envelope.read(headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ce_id", b"billing/3"),
        ("ce_id", b"billing/x/1"),
        ("ce_id", b"\xff/3/1"),
        ("clock", b"orders"),
        ("clock", b'{"a":"b"}'),
    ],
)
def test_headers_that_were_not_written_by_us_are_a_value_error(name: str, value: bytes) -> None:
    headers = dict(envelope.write("billing", 3, 1, "Said", {}, CAUSE)) | {name: value}
    with pytest.raises(ValueError):
        envelope.read(headers.items())


def test_a_request_without_headers_is_known_by_its_offset() -> None:
    read = envelope.of_request("orders.requests", 3, 41, [])
    own_id = "orders.requests/3/41"
    assert read == Envelope(own_id, "orders.requests", 3, 42, {}, "", own_id, None)


def test_what_a_request_brings_is_kept() -> None:
    read = envelope.of_request("r", 0, 0, [("correlation", b"c-1"), ("traceparent", b"00-1-2-01"), ("other", b"x")])
    assert (read.correlation, read.traceparent) == ("c-1", b"00-1-2-01")


def test_what_a_request_brings_too_long_is_cut_or_dropped() -> None:
    long = b"x" * (MOST_BYTES + 1)
    read = envelope.of_request("r", 0, 0, [("correlation", long), ("traceparent", long)])
    assert (read.correlation, read.traceparent) == ("x" * MOST_BYTES, None)


@given(st.binary(max_size=300))
def test_any_correlation_from_outside_becomes_text_that_every_database_takes(sent: bytes) -> None:
    read = envelope.of_request("r", 0, 0, [("correlation", sent)])
    assert read.correlation
    assert "\0" not in read.correlation
    headers = envelope.write("orders", 0, 1, "Said", {}, read)
    assert envelope.read(headers).correlation == read.correlation


def test_a_fact_is_its_topics_own_only_where_its_speaker_says_that_it_is() -> None:
    headers = envelope.write("billing", 1, 7, "PaymentCaptured", {}, envelope.of_request("r", 1, 0, ()))
    said = envelope.of_own("billing", 1, headers)
    assert said is not None and said.id == "billing/1/7"
    assert envelope.of_own("billing", 2, headers) is None
    assert envelope.of_own("shipping", 1, headers) is None
    assert envelope.of_own("billing", 1, ()) is None
