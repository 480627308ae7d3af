"""The report: readable on a terminal, complete as JSON, bounded however much is broken."""

import json
import re
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.console import Console

from pavane.audit import Report, table
from pavane.audit.dead_letters import DeadLetter, listed
from pavane.audit.report import MOST_CHARACTERS, MOST_EXAMPLES, PATIENCE_SECONDS, Tally

AT = datetime(2026, 1, 1, tzinfo=UTC)


def tally(violations: int = 0, unsettled: int = 0) -> Tally:
    counted = Tally("stock-balances", "No stock is below zero.")
    counted.checked, counted.unsettled = 1234, unsettled
    for number in range(violations):
        counted.violation(f"item {number}")
    return counted


def shown(report: Report) -> str:
    screen = StringIO()
    Console(width=120, file=screen).print(table(report))
    return screen.getvalue()


def test_a_report_without_violations_is_clean():
    report = Report(AT, 1.5, (tally().verdict(), tally(unsettled=3).verdict()))

    assert report.clean
    assert report.unsettled == 3
    assert "All 2 invariants hold (1.5 s). 3 things were still on their way." in shown(report)


def test_a_broken_invariant_is_shown_with_its_first_violations():
    text = shown(Report(AT, 1.5, (tally(violations=7).verdict(), tally().verdict())))

    assert "BROKEN" in text
    assert "1,234" in text
    assert "item 4" in text
    assert "item 5" not in text
    assert "and 2 more" in text
    assert "1 of 2 invariants are broken." in text


def test_a_list_is_no_invariant_and_is_not_counted_as_one():
    waiting = Tally("parked", "Parked: records that wait.", lists=True)
    waiting.checked = 7

    text = shown(Report(AT, 1.5, (tally().verdict(), waiting.verdict())))

    assert "All 1 invariants hold" in text
    assert re.search(r"list +Parked: records that wait. +7 +- +-", text)


def test_any_number_of_violations_is_counted_but_few_are_kept():
    verdict = tally(violations=1000).verdict()

    assert verdict.violation_count == 1000
    assert len(verdict.violations) == MOST_EXAMPLES


def test_any_number_of_notes_is_counted_but_few_are_kept():
    counted = tally()
    for number in range(1000):
        counted.note(f"letter {number}")

    report = Report(AT, 1.5, (counted.verdict(),))

    [verdict] = json.loads(report.as_json())["verdicts"]
    assert (verdict["note_count"], len(verdict["notes"])) == (1000, MOST_EXAMPLES)
    assert "and 995 more" in shown(report)


def test_text_of_strangers_is_one_line_and_moves_no_terminal():
    counted = tally()
    counted.violation("about \x1b[2J\nall is well")
    counted.note("about \x1b]0;x\x07 " + "y" * MOST_CHARACTERS)

    verdict = counted.verdict()

    assert verdict.violations == ("about \ufffd[2J all is well",)
    [note] = verdict.notes
    assert note.startswith("about \ufffd]0;x\ufffd yyy")
    assert len(note) == MOST_CHARACTERS
    assert "\x1b" not in shown(Report(AT, 1.5, (verdict,)))


def test_a_long_key_of_a_dead_letter_leaves_room_for_its_reason():
    letter = DeadLetter("orders.dead-letters/0/1", "orders.requests/0/5", "k" * 30_000, "Refused", "no such order")

    [note] = listed([letter]).notes

    assert "about kkk" in note
    assert note.endswith("…: Refused: no such order")


def test_many_violations_at_one_place_count_as_many():
    counted = tally()
    counted.violation("facts 5 to 9 are missing", 5)

    assert counted.verdict().violation_count == 5


def test_json_holds_every_verdict_with_its_counts():
    document = json.loads(Report(AT, 1.5, (tally(violations=1).verdict(),)).as_json())

    assert document["clean"] is False
    assert document["verdicts"] == [
        {
            "name": "stock-balances",
            "promise": "No stock is below zero.",
            "checked": 1234,
            "unsettled": 0,
            "violation_count": 1,
            "violations": ["item 0"],
            "note_count": 0,
            "notes": [],
            "lists": False,
            "until_redrive": 0,
            "oldest": None,
            "clean": False,
        }
    ]


def test_a_verdict_is_found_by_its_name():
    report = Report(AT, 1.5, (tally().verdict(),))

    assert report.verdict("stock-balances").checked == 1234
    with pytest.raises(KeyError):
        report.verdict("unheard-of")


# -- what is not settled ---------------------------------------------------------------------------------------------


def test_what_waits_longest_is_named_with_since_when_and_the_closing_line_says_for_how_long():
    counted = tally()
    for minutes in (5, 40, 10):
        counted.wait(f"order {minutes}", AT - timedelta(minutes=minutes), AT)

    report = Report(AT, 1.5, (counted.verdict(),))

    text = shown(report)
    assert "stock-balances: 3 not settled, the oldest since 2025-12-31 23:20:00Z:\n  order 40\n" in text
    assert "3 things were still on their way. The oldest waits for 40m." in text
    [verdict] = json.loads(report.as_json())["verdicts"]
    assert verdict["oldest"] == {"since": "2025-12-31T23:20:00+00:00", "what": "order 40"}


def test_what_waits_for_a_redrive_is_not_on_its_way_and_all_of_it_is_named():
    counted = tally()
    for number in range(3):
        counted.wait(f"order {number}", AT, AT, redrive=number < 2)

    text = shown(Report(AT, 1.5, (counted.verdict(),)))

    assert "1 thing was still on its way. 2 wait for a redrive: 'pavane dead-letters list'." in text
    assert "order 0" in text
    assert "order 1" in text


def test_what_waits_for_longer_than_an_hour_is_a_violation():
    counted = tally()
    counted.wait("order 1 waits for billing", AT - timedelta(seconds=PATIENCE_SECONDS), AT)
    counted.wait("order 2 waits for billing", AT - timedelta(seconds=PATIENCE_SECONDS + 1), AT, redrive=True)

    verdict = counted.verdict()

    assert (verdict.unsettled, verdict.until_redrive, verdict.violation_count) == (1, 0, 1)
    assert verdict.violations == ("order 2 waits for billing (for 60m, since 2025-12-31 22:59:59Z)",)
