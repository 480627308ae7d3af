"""What the benchmark tells: lines while it runs, a table a scenario, one JSON document of everything."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from pavane.bench import machine
from pavane.bench.goals import Goal
from pavane.lines import Lines

PLAIN_LINE_SECONDS = 10.0


class Row(NamedTuple):
    """One line of a table: what, and its figures in the order of the columns."""

    what: str
    figures: Sequence[str]


class Result(NamedTuple):
    """One scenario: a table to read, and everything that was measured."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    document: Mapping[str, Any]
    notes: Sequence[str] = ()
    goals: Sequence[Goal] = ()


class Progress:
    """Says what is being done now: a moving line on a terminal, elsewhere a plain line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def doing(self, what: str) -> Iterator["Step"]:
        """Around one step of a scenario."""
        step = Step(self._console, what)
        if self._console.is_terminal:
            with self._console.status(f"  {what}") as status:
                step.update = lambda detail: status.update(f"  {what}: {detail}")
                yield step
        else:
            yield step
        self._console.print(f"  {what} [dim]{step.seconds:,.0f} s[/]")


class Step:
    """One step under way; `update` may be called from any thread, as often as one likes."""

    def __init__(self, console: Console, what: str) -> None:
        self._begun = self._told = time.monotonic()
        self._console = console
        self._what = what
        self.update = self._tell

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def facts(self, count: int) -> None:
        """So many facts were said so far."""
        self.update(f"{count:,} facts said")

    def _tell(self, detail: str) -> None:
        if time.monotonic() - self._told > PLAIN_LINE_SECONDS:
            self._told = time.monotonic()
            self._console.print(f"  {self._what}: {detail}", style="dim")


class Report:
    """Collects results, prints each as soon as it is there, and keeps them all in `folder`."""

    def __init__(self, folder: Path, lines: Lines) -> None:
        self.folder = folder
        self.progress = Progress(lines.console)
        self._lines = lines
        self._document: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(["pavane", *sys.argv[1:]]),
            "machine": machine.facts(),
            "scenarios": {},
        }

    @property
    def document(self) -> Mapping[str, Any]:
        return self._document

    def begin(self) -> None:
        """Say what this is measured on."""
        self._lines.say(machine.sentence(self._document["machine"]))

    def add(self, name: str, result: Result) -> None:
        """Print one scenario's table, and write everything that is known so far to `bench.json`."""
        table = Table(box=None, padding=(0, 2), header_style="bold")
        table.add_column("", no_wrap=True)
        for column in result.columns:
            table.add_column(column, justify="right")
        for row in result.rows:
            table.add_row(row.what, *row.figures)
        self._lines.heading(result.title)
        self._lines.console.print(table)
        for note in result.notes:
            self._lines.say(f"  {note}")
        for goal in result.goals:
            self._lines.say(f"  {goal.line()}")
        goals = {"goals": [goal.document() for goal in result.goals]} if result.goals else {}
        load = {"load_average_after": machine.facts()["load_average"]}
        self._document["scenarios"][name] = {**result.document, **goals, **load}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "bench.json").write_text(json.dumps(self._document, indent=2) + "\n")
