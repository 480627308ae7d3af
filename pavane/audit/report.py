"""What an audit found: one verdict an invariant, each with its count, and what to look at where it is broken.

And the lists of what waits, or was put aside: nothing that breaks an invariant by being there, but worth seeing.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pavane.operators.words import age, count, cut, moment

MOST_EXAMPLES = 20
SHOWN_EXAMPLES = 5
MOST_CHARACTERS = 2_000
PATIENCE_SECONDS = 3_600
"""How long anything may wait before that is a violation: an end that nobody acts on keeps no promise."""


@dataclass(frozen=True)
class Oldest:
    """What waits longest of all that is not settled, and since when (UTC)."""

    since: datetime
    what: str


@dataclass(frozen=True)
class Verdict:
    """One invariant. `checked`: how many things it was asked of; `unsettled`: how many of which nobody can know yet.

    Of those `until_redrive` do not go on before somebody decides; `oldest` is known where it is known since when.

    `violations` are the first few in words, `violation_count` is how many there are. `notes` are worth seeing and
    break nothing; they too are the first few, of `note_count`. `lists`: it is no invariant but a list, of its notes; it
    has no violations.
    """

    name: str
    promise: str
    checked: int
    unsettled: int
    violation_count: int
    violations: tuple[str, ...]
    note_count: int = 0
    notes: tuple[str, ...] = ()
    lists: bool = False
    until_redrive: int = 0
    oldest: Oldest | None = None

    @property
    def clean(self) -> bool:
        """The invariant holds for everything that was checked."""
        return self.violation_count == 0


@dataclass(frozen=True)
class Report:
    """All verdicts of one audit, begun `at` (UTC); `seconds`: how long it took.

    `since`: when (UTC) the audit began that had read the log before, as its checkpoint says; None: all was read now.
    """

    at: datetime
    seconds: float
    verdicts: tuple[Verdict, ...]
    since: datetime | None = None

    @property
    def clean(self) -> bool:
        """No invariant is broken."""
        return all(verdict.clean for verdict in self.verdicts)

    @property
    def invariants(self) -> tuple[Verdict, ...]:
        """The verdicts that can be broken: all but the lists."""
        return tuple(verdict for verdict in self.verdicts if not verdict.lists)

    @property
    def unsettled(self) -> int:
        """How many things were not settled, over all invariants; 0: everything has come to rest."""
        return sum(verdict.unsettled for verdict in self.verdicts)

    @property
    def until_redrive(self) -> int:
        """How many of them do not go on before somebody decides."""
        return sum(verdict.until_redrive for verdict in self.verdicts)

    def verdict(self, name: str) -> Verdict:
        """The verdict of that name. Raises `KeyError`."""
        for verdict in self.verdicts:
            if verdict.name == name:
                return verdict
        raise KeyError(name)

    def as_json(self) -> str:
        """The report as one JSON document."""
        document = {
            "at": self.at.isoformat(),
            "seconds": round(self.seconds, 3),
            "since": self.since.isoformat() if self.since is not None else None,
            "clean": self.clean,
            "verdicts": [{**asdict(verdict), "clean": verdict.clean} for verdict in self.verdicts],
        }
        return json.dumps(document, indent=2, ensure_ascii=False, default=datetime.isoformat)


class Tally:
    """Counts towards one verdict. Any number of violations may be noted; only the first few are kept in words.

    Keys and messages in those may be a stranger's: each is one line, and nothing in it moves a terminal.
    """

    def __init__(self, name: str, promise: str, *, lists: bool = False) -> None:
        self._name = name
        self._promise = promise
        self._lists = lists
        self._examples: list[str] = []
        self._notes: list[str] = []
        self._oldest: Oldest | None = None
        self.checked = 0
        self.unsettled = 0
        self.until_redrive = 0
        self.violations = 0
        self.notes = 0

    def violation(self, what: str, count: int = 1) -> None:
        """The invariant is broken here, `count` times."""
        self.violations += count
        if len(self._examples) < MOST_EXAMPLES:
            self._examples.append(cut(what, MOST_CHARACTERS))

    def wait(self, what: str, since: datetime, now: datetime, *, redrive: bool = False) -> None:
        """This waits, and is not settled. For longer than anything may wait, that is a violation.

        `redrive`: until somebody decides, so it is named, also where it is not the oldest.
        """
        if (now - since).total_seconds() > PATIENCE_SECONDS:
            self.violation(f"{what} (for {age(since, now)}, since {moment(since)})")
            return
        self.unsettled += 1
        self.until_redrive += redrive
        if redrive:
            self.note(what)
        if self._oldest is None or since < self._oldest.since:
            self._oldest = Oldest(since, cut(what, MOST_CHARACTERS))

    def note(self, what: str) -> None:
        """Something to be seen that breaks nothing."""
        self.notes += 1
        if len(self._notes) < MOST_EXAMPLES:
            self._notes.append(cut(what, MOST_CHARACTERS))

    def verdict(self) -> Verdict:
        """What was counted so far."""
        return Verdict(
            self._name,
            self._promise,
            self.checked,
            self.unsettled,
            self.violations,
            tuple(self._examples),
            self.notes,
            tuple(self._notes),
            self._lists,
            self.until_redrive,
            self._oldest,
        )


def table(report: Report) -> RenderableType:
    """The report for a terminal: a line an invariant or list, then what is wrong, then what is worth seeing."""
    lines = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    lines.add_column("")
    lines.add_column("invariant", overflow="fold")
    for name in ("checked", "not settled", "violations"):
        lines.add_column(name, justify="right")
    for verdict in report.verdicts:
        lines.add_row(
            _word(verdict),
            Text(verdict.promise),
            f"{verdict.checked:,}",
            f"{verdict.unsettled:,}" if verdict.unsettled else "-",
            _violations(verdict),
        )
    return Group(lines, *_details(report), _closing(report))


def _word(verdict: Verdict) -> Text:
    if verdict.lists:
        return Text("list")
    return Text("ok", style="green") if verdict.clean else Text("BROKEN", style="bold red")


def _violations(verdict: Verdict) -> Text:
    if verdict.violation_count:
        return Text(f"{verdict.violation_count:,}", style="bold red")
    return Text("-" if verdict.lists else "0")


def _details(report: Report) -> Iterator[RenderableType]:
    for verdict in report.verdicts:
        if not verdict.clean:
            yield Text(f"{verdict.name}: {count(verdict.violation_count, 'violation')}", style="bold red")
            yield from _some(verdict.violations, verdict.violation_count)
        if verdict.notes:
            yield Text(f"{verdict.name}:", style="bold")
            yield from _some(verdict.notes, verdict.note_count)
        if verdict.oldest is not None:
            since = moment(verdict.oldest.since)
            yield Text(f"{verdict.name}: {verdict.unsettled:,} not settled, the oldest since {since}:", style="bold")
            yield Text(f"  {verdict.oldest.what}", overflow="fold")


def _some(lines: tuple[str, ...], of: int) -> Iterator[RenderableType]:
    for line in lines[:SHOWN_EXAMPLES]:
        yield Text(f"  {line}", overflow="fold")
    if of > SHOWN_EXAMPLES:
        yield Text(f"  and {of - SHOWN_EXAMPLES:,} more", style="dim")


def _closing(report: Report) -> Text:
    if not report.clean:
        broken = sum(not verdict.clean for verdict in report.verdicts)
        return Text(f"{broken} of {len(report.invariants)} invariants are broken.", style="bold red")
    rest = "".join(f" {each}" for each in _waiting(report))
    style = "yellow" if report.until_redrive else "green"
    read = f" The log was read from where the audit of {report.since:%F %T} UTC had come." if report.since else ""
    return Text(f"All {len(report.invariants)} invariants hold ({report.seconds:.1f} s).{rest}{read}", style=style)


def _waiting(report: Report) -> Iterator[str]:
    if moving := report.unsettled - report.until_redrive:
        yield f"{moving:,} {'thing was still on its way' if moving == 1 else 'things were still on their way'}."
    if still := report.until_redrive:
        yield f"{still:,} {'waits' if still == 1 else 'wait'} for a redrive: 'pavane dead-letters list'."
    if oldest := min((each.oldest.since for each in report.verdicts if each.oldest is not None), default=None):
        yield f"The oldest waits for {age(oldest, report.at)}."
