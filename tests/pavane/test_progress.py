"""How progress is shown: plain lines where nobody watches, and never a control character in them."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from pavane.demo import progress


def at(placed: int, confirmed: int, cancelled: int, rejected: int = 0) -> SimpleNamespace:
    ended = dict.fromkeys(range(confirmed + cancelled + rejected))
    return SimpleNamespace(placed=placed, confirmed=confirmed, cancelled=cancelled, rejected=rejected, ended=ended)


def test_without_a_terminal_there_is_a_plain_line_now_and_then_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0.0)
    written = io.StringIO()

    with progress.shown_on(Console(file=written, width=120), total=1500) as shown:
        shown.update(at(600, 400, 20))  # type: ignore[arg-type]
        shown.update(at(1500, 1450, 49, 1))  # type: ignore[arg-type]

    first, last = written.getvalue().splitlines()
    assert "420 of 1,500 ended" in first
    assert "1,500 of 1,500 ended" in last
    assert "1,450 confirmed" in last
    assert written.getvalue().replace("\n", "").isprintable()


def test_on_a_terminal_there_is_a_bar() -> None:
    written = io.StringIO()

    with progress.shown_on(Console(file=written, force_terminal=True, width=120), total=10) as shown:
        shown.update(at(10, 9, 1))  # type: ignore[arg-type]

    assert "10/10" in written.getvalue()
    assert "1 cancelled" in written.getvalue()
