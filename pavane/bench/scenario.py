"""What a scenario is given: sizes, a folder, a way to show progress; and how it writes figures."""

from pathlib import Path
from typing import NamedTuple

from pavane.bench.report import Progress


class Options(NamedTuple):
    """What the user chose. `growth`: orders that are there already in the growth scenario; 0: that part is left out."""

    data: Path
    is_quick: bool = False
    orders: int | None = None
    growth: int = 0
    seed: int = 1

    def size(self, usual: int, quick: int) -> int:
        """How many orders: the user's number, or the scenario's own."""
        return self.orders or (quick if self.is_quick else usual)


class Given(NamedTuple):
    """The surroundings of one scenario."""

    options: Options
    progress: Progress

    def folder(self, name: str) -> Path:
        """A folder for one stack."""
        return self.options.data / name


def rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:,.1f} ms"
