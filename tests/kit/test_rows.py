"""The rows of a batch in memory: what became of them, what can be taken back, what is written."""

from typing import Any

import pytest
from msgspec.structs import asdict, replace

from streams.kit.rows import Changes, Remembered, RowMissing, Rows
from tests.kit.counter_events import Count, Entry, Total


def written(changes: list[Changes]) -> dict[str, list[Any]]:
    return {change.state.table: [asdict(row) for row in change.rows] for change in changes}


def with_count(total: int = 0) -> Rows:
    rows = Rows()
    rows.give(Count, [Count(counter="a", total=total)], ["a"])
    return rows


def test_a_row_that_was_not_loaded_is_missing() -> None:
    with pytest.raises(RowMissing) as missing:
        Rows().get(Count, "a")
    assert (missing.value.state, missing.value.key) == (Count, "a")


def test_a_row_that_does_not_exist_begins_in_the_lane_of_its_record() -> None:
    rows = Rows()
    rows.give(Count, [], ["a", "b"], {"a": 3})
    assert (rows.get(Count, "a"), rows.get(Count, "b")) == (Count(counter="a", partition=3), Count(counter="b"))


def test_what_was_loaded_once_is_not_wanted_again() -> None:
    assert with_count().missing({Count: ["b", "a", "b"], Total: []}) == {Count: ["b"]}


def test_shared_and_append_only_rows_need_no_loading() -> None:
    rows = Rows()
    assert rows.get(Total, "all") == Total(name="all")
    assert rows.get(Entry, "a/1", 2) == Entry(entry="a/1")


def test_undo_goes_back_to_the_mark_and_no_further() -> None:
    rows = with_count(1)
    rows.put(Count(counter="a", total=2))
    mark = rows.mark()
    rows.put(Count(counter="a", total=3))
    rows.put(Total(name="all", amount=5))
    rows.put(Count(counter="a", total=4))
    rows.undo(mark)
    assert (rows.get(Count, "a").total, rows.get(Total, "all").amount) == (2, 0)
    rows.undo(0)
    assert rows.get(Count, "a").total == 1


def test_reset_goes_back_to_what_was_loaded() -> None:
    rows = with_count(1)
    rows.put(Count(counter="a", total=2))
    rows.reset()
    assert (rows.get(Count, "a").total, rows.mark(), rows.changes()) == (1, 0, [])


def test_only_rows_that_differ_are_written() -> None:
    rows = with_count(1)
    rows.give(Count, [Count(counter="b")], ["b"])
    rows.put(Count(counter="a", total=2))
    rows.put(Count(counter="a", total=1))
    rows.put(Count(counter="b", total=7))
    assert [each["counter"] for each in written(rows.changes())["counts"]] == ["b"]


def test_own_rows_are_written_whole_and_in_key_order() -> None:
    rows = Rows()
    rows.give(Count, [], ["b", "a"])
    for key in ("b", "a"):
        rows.put(Count(counter=key, total=1))
    [change] = rows.changes()
    assert [(row.row_key, row) for row in change.rows] == [(key, Count(counter=key, total=1)) for key in ("a", "b")]


def test_of_shared_rows_what_was_added_is_written_and_text_as_it_is() -> None:
    rows = Rows()
    rows.give(Total, [Total(name="all", amount=100)], ["all"])
    rows.put(Total(name="all", amount=97, note="less"))
    rows.put(replace(rows.get(Total, "new"), amount=5))
    assert written(rows.changes())["totals"] == [
        {"name": "all", "amount": -3, "note": "less"},
        {"name": "new", "amount": 5, "note": ""},
    ]


def test_own_rows_are_written_before_shared_ones() -> None:
    rows = with_count()
    rows.put(replace(rows.get(Total, "all"), amount=1))
    rows.put(replace(rows.get(Count, "a"), total=1))
    assert [change.state for change in rows.changes()] == [Count, Total]


def test_a_row_that_was_committed_is_remembered_until_its_lane_is_forgotten() -> None:
    remembered, row = Remembered(), Count.new("a", 3)
    remembered.note(3, row)
    assert remembered.find(3, Count, "a") == row
    assert remembered.find(2, Count, "a") is None
    remembered.forget(3)
    assert remembered.find(3, Count, "a") is None


def test_of_many_rows_the_ones_used_last_are_remembered() -> None:
    remembered = Remembered(most_rows=2)
    for key in "abac":
        remembered.note(0, Count.new(key, 0))
    assert [key for key in "abc" if remembered.find(0, Count, key)] == ["a", "c"]
