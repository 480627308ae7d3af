"""The orders while they run: a bar on a terminal, a plain line now and then elsewhere."""

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from pavane.demo.traffic import Traffic

#: Between plain lines; longer the longer it runs, so that a long run is no long log.
PLAIN_LINE_SECONDS = 1.0
PLAIN_LINE_SHARE = 1 / 30


class Shown(Protocol):
    """Shows how far the orders are; a context manager around the time they run."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, traffic: Traffic) -> None: ...


def shown_on(console: Console, total: int) -> Shown:
    """A bar on a terminal, lines elsewhere. `total`: the orders that will run."""
    return Bar(console, total) if console.is_terminal else PlainLines(console, total)


class Bar:
    """One line that moves."""

    def __init__(self, console: Console, total: int) -> None:
        self._progress = Progress(
            SpinnerColumn(), BarColumn(), MofNCompleteColumn(), _Rate(), TextColumn("{task.fields[counts]}"),
            console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=total, counts="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, traffic: Traffic) -> None:
        counts = f"[green]{traffic.confirmed:,} confirmed[/]  [yellow]{traffic.cancelled:,} cancelled[/]"
        counts += f"  [red]{traffic.rejected:,} rejected[/]" if traffic.rejected else ""
        self._progress.update(self._task, completed=len(traffic.ended), counts=counts)


class _Rate(ProgressColumn):
    """Orders ended in a second, over the whole time."""

    def render(self, task: Task) -> Text:
        rate = task.completed / task.elapsed if task.elapsed else 0.0
        return Text(f"{rate:6,.0f}/s", "cyan")


class PlainLines:
    """A line a second, later fewer, and one at the end, for logs: no control characters."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._begun = self._last = time.monotonic()
        self._line = ""
        self._printed = ""

    def __enter__(self) -> Self:
        self._begun = self._last = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._print()

    def update(self, traffic: Traffic) -> None:
        now = time.monotonic()
        ended = len(traffic.ended)
        rate = ended / (now - self._begun) if now > self._begun else 0.0
        self._line = (
            f"  {ended:>7,} of {self._total:,} ended  {traffic.placed:>7,} placed  {traffic.confirmed:>7,} confirmed  "
            f"{traffic.cancelled:>6,} cancelled  {traffic.rejected:>3,} rejected  {rate:>6,.0f} orders a second"
        )
        if now - self._last >= max(PLAIN_LINE_SECONDS, PLAIN_LINE_SHARE * (now - self._begun)):
            self._last = now
            self._print()

    def _print(self) -> None:
        if self._line != self._printed:
            self._printed = self._line
            self._console.print(self._line)
