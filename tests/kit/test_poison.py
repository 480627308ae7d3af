"""What cannot be handled is put aside, once, in the transaction that passes over it, and nobody else waits."""

import random
import string
import struct
from collections import Counter as Tally
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams.kit.lane import Lane
from streams.kit.log import Record
from tests.kit.running import KEYS, Counting
from tests.waiting import eventually


async def test_what_cannot_be_handled_goes_to_the_dead_letters_and_everything_else_flows(counting: Counting) -> None:
    counter = counting.counter
    good = [key for key in KEYS if key not in ("k0", "k1", "k2")]

    def request(key: bytes | None, value: bytes, partition: int = 0) -> Record:
        return Record(counter.requests, partition, 0, 0, key, value, ())

    await counting.ask(*((key, 1) for key in good))
    at_home = counting.partition("k3")
    await counting.send(
        request(b"k3", b"garbage", at_home),
        request(b"k3", counter.unknown_schema(), at_home),
        request(None, counter.add("k3")),
        request(b"k3", counter.add("k3"), 1 - at_home),
        request(b"\xff", counter.add("k3")),
    )
    await counting.ask(("k0", 1, "raise"), ("k1", 1, "zero"), ("k2", 1, "refuse"), ("k3", 1, "other key"))
    await counting.ask(*((key, 1) for key in good))
    with capture_logs() as lines:
        await counting.start()
        await counting.until_totals(dict.fromkeys(good, 2))
        await eventually(lambda: _has_letters(counting, 9))

    letters = await counting.letters()
    assert Tally(letter["dead_letter_reason"].decode() for letter in letters) == {
        "Undecodable": 5, "ZeroDivisionError": 1, "Undecidable": 2, "Refused": 1,
    }  # fmt: skip
    for words in ("wire format", "no schema", "no key", "murmur2", "UTF-8", "divides by zero", "the database refuses"):
        assert any(words in letter["dead_letter_message"].decode() for letter in letters), words
    assert all(letter["dead_letter_origin"].decode().startswith(f"{counter.requests}/") for letter in letters)
    assert len({letter["dead_letter_id"] for letter in letters}) == 9
    assert len([line for line in lines if line["event"] == "put_aside"]) == 9
    assert [line for line in lines if line["event"] == "batch_refused"]
    assert await counting.said() == dict.fromkeys(good, 2)


async def test_a_dead_letter_is_committed_with_the_position_that_passes_over_its_record(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is ever said of a record that is not heard, nor heard without being said: one transaction, or none."""
    batches_that_said_something = 0
    right = Lane.adopt

    def adopt(lane: Lane, draft: Any) -> None:
        nonlocal batches_that_said_something
        batches_that_said_something += bool(draft.said)
        right(lane, draft)

    monkeypatch.setattr(Lane, "adopt", adopt)
    await counting.ask(("k0", 1, "raise"))
    await counting.start()
    await eventually(counting.letters)
    home = counting.partition("k0")
    [(positions, outbox_row)] = await counting.rows(
        "SELECT positions, outbox_row FROM lanes WHERE partition = %s", home
    )
    assert (positions[counting.counter.requests], outbox_row, batches_that_said_something) == (1, 1, 1)
    [(parked_key,)] = await counting.rows("SELECT key FROM parked")
    assert parked_key == "k0"


async def _has_letters(counting: Counting, count: int) -> bool:
    return len(await counting.letters()) == count


async def test_a_record_as_large_as_the_broker_takes_is_put_aside_cut_and_kept_whole(counting: Counting) -> None:
    """With the reasons added its dead letter would be too large for the log, and hold up every fact of the lane."""
    at_home, size = counting.partition("k3"), 1_040_000
    await counting.send(Record(counting.counter.requests, at_home, 0, 0, b"k3", b"\x01" * size, ()))
    await counting.ask(("k3", 1))
    await counting.start()

    await counting.until_totals({"k3": 1})
    await eventually(lambda: _has_letters(counting, 1))
    [letter] = await counting.letters()
    assert letter["dead_letter_cut_from_bytes"] == str(size).encode()
    [(kept,)] = await counting.rows("SELECT length(delivery) FROM parked")
    assert kept > size


async def test_a_key_too_long_for_an_index_is_put_aside_alone(counting: Counting) -> None:
    key = "".join(random.Random(1).choices(string.ascii_letters, k=20_000)).encode()
    value = counting.counter.add("k3")
    await counting.send(Record(counting.counter.requests, counting.partition(key.decode()), 0, 0, key, value, ()))
    await counting.ask(("k3", 1))
    await counting.start()

    await counting.until_totals({"k3": 1})
    await eventually(lambda: _has_letters(counting, 1))


@pytest.mark.parametrize(
    "schema", ['"string"', '["null", "string"]', '{"type": "array", "items": "int"}', "syntax = x"]
)
async def test_a_schema_that_is_no_record_makes_a_dead_letter_of_its_records_only(
    counting: Counting, schema: str
) -> None:
    texts = counting.counter.registry.texts
    texts.append(schema)
    value = struct.pack(">bI", 0, len(texts) - 1) + b"\x02a"
    await counting.send(Record(counting.counter.requests, counting.partition("k3"), 0, 0, b"k3", value, ()))
    await counting.ask(("k3", 1))
    await counting.start()

    await counting.until_totals({"k3": 1})
    await eventually(lambda: _has_letters(counting, 1))
