"""What a run is held against: each goal, what was found, and by how much it was missed. Pure."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

LOOKS = 3
"""So many looks at memory count as one: a single one may see a moment's peak."""


class Goal(NamedTuple):
    """`missed`: by how much, in words; "": it is met. `is_figure`: of time, rate or memory, which the machine decides
    too; what is not one is right or wrong anywhere."""

    what: str
    wanted: str
    found: str
    missed: str = ""
    is_figure: bool = False

    @property
    def is_met(self) -> bool:
        return not self.missed

    def line(self) -> str:
        verdict = "met   " if self.is_met else "MISSED"
        by = "" if self.is_met else f": {self.missed}"
        return f"{verdict} {self.what}, {self.wanted}: {self.found}{by}"

    def document(self) -> dict[str, Any]:
        return {**self._asdict(), "met": self.is_met}


def none_of(what: str, count: int, of: str, examples: Sequence[str] = ()) -> Goal:
    """Not a single one."""
    missed = "; ".join(examples) or f"{count:,} too many"
    return Goal(what, "none", f"{count:,} of {of}", missed if count else "")


def at_most(what: str, found: float, most: float, written: Callable[[float], str]) -> Goal:
    missed = f"{written(found - most)} over" if found > most else ""
    return Goal(what, f"at most {written(most)}", written(found), missed, is_figure=True)


def at_least(what: str, found: float, least: float, written: Callable[[float], str]) -> Goal:
    missed = f"{written(least - found)} short" if found < least else ""
    return Goal(what, f"at least {written(least)}", written(found), missed, is_figure=True)


def flat(what: str, looks: Sequence[int], most_share: float) -> Goal:
    """Memory, in bytes, from the middle of a run to its end: by then every cache has had time to fill."""
    middle = len(looks) // 2
    before, after = fmean(looks[middle - 1 : middle + 2]), fmean(looks[-LOOKS:])
    grown = after / before - 1
    wanted = f"at most {100 * most_share:.0f} % more from the middle to the end"
    found = f"{before / 2**20:.0f} to {after / 2**20:.0f} MiB, {100 * grown:+.1f} %"
    missed = f"{100 * (grown - most_share):.1f} % over" if grown > most_share else ""
    return Goal(what, wanted, found, missed, is_figure=True)
