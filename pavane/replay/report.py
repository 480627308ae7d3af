"""What a replay found: decisions that are the same, and differences by reaction and reason, with one example each."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pavane.replay.outcome import Outcome, reason

MOST_CHARACTERS = 600


class Example(NamedTuple):
    """One record of which something else would become. `id`: as its envelope says; `key`: what it is about."""

    id: str
    key: str
    was: str
    would: str


@dataclass
class Differing:
    """Differences of one reaction for one reason."""

    reaction: str
    reason: str
    example: Example
    count: int = 0


@dataclass
class Report:
    """Counts of decisions. `settled_by_order`: the same under another order in which lanes may have changed a row that
    they share. `waiting`: records that were not handled by then. `not_told`: decisions of which the log does not tell
    what was heard, or that lie outside of what was asked for."""

    service: str
    decided: dict[str, int] = field(default_factory=dict)
    settled_by_order: int = 0
    waiting: int = 0
    not_told: int = 0
    groups: dict[tuple[str, str], Differing] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def decisions(self) -> int:
        return sum(self.decided.values())

    @property
    def differences(self) -> int:
        return sum(group.count for group in self.groups.values())

    @property
    def same(self) -> bool:
        return not self.groups

    def differs(self, reaction: str, example: tuple[str, str], was: Outcome, would: Outcome) -> None:
        """Note a difference; only the first of its group is kept in words."""
        place = (reaction, reason(was, would))
        if place not in self.groups:
            told = (_cut(was.told()), _cut(would.told()))
            self.groups[place] = Differing(*place, Example(*example, *told))
        self.groups[place].count += 1

    def as_json(self) -> str:
        """The report as one JSON document."""
        document = {
            "service": self.service,
            "same": self.same,
            "decisions": self.decisions,
            "decided": dict(sorted(self.decided.items())),
            "settled_by_order": self.settled_by_order,
            "waiting": self.waiting,
            "not_told": self.not_told,
            "differences": [
                {**asdict(group), "example": group.example._asdict()} for group in self._sorted()
            ],
            "seconds": round(self.seconds, 3),
        }
        return json.dumps(document, indent=2, ensure_ascii=False)

    def text(self) -> str:
        """The differences in plain lines, for a test's message."""
        return "\n".join(line for group in self._sorted() for line in _lines(group)) or self.closing()

    def table(self) -> RenderableType:
        """The report for a terminal."""
        lines = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        lines.add_column("heard", overflow="fold")
        lines.add_column("decisions", justify="right")
        lines.add_column("differ", justify="right")
        for reaction, count in sorted(self.decided.items()):
            differ = sum(group.count for group in self.groups.values() if group.reaction == reaction)
            lines.add_row(reaction, f"{count:,}", Text(f"{differ:,}", style="bold red" if differ else ""))
        details = [Text("\n".join(_lines(group)), overflow="fold") for group in self._sorted()]
        return Group(lines, *details, Text(self.closing(), style="green" if self.same else "bold red"))

    def closing(self) -> str:
        """The outcome in one sentence, and what was not compared."""
        said = (
            f"Today's code decides the same in all {self.decisions:,} cases"
            if self.same
            else f"Today's code decides otherwise in {self.differences:,} of {self.decisions:,} cases"
        )
        rest = [
            f" {count:,} {what}."
            for count, what in (
                (self.settled_by_order, "depend on the order of lanes, and are the same under one that may have been"),
                (self.waiting, "records were not handled by then"),
                (self.not_told, "facts answer records that were heard before, or that the log does not tell"),
            )
            if count
        ]
        return f"{said} ({self.seconds:.1f} s).{''.join(rest)}"

    def _sorted(self) -> list[Differing]:
        return sorted(self.groups.values(), key=lambda group: (-group.count, group.reaction, group.reason))


def _lines(group: Differing) -> Iterator[str]:
    yield f"{group.reaction}: {group.count:,} {group.reason}"
    yield f"    for example {group.example.id} about {group.example.key}"
    yield f"      was:   {group.example.was}"
    yield f"      would: {group.example.would}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."
