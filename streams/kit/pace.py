"""How long records are gathered before they are handed on: longer where a processor is short.

Each batch has a fixed cost. Where all processors are busy, who decides upon records as they come takes them from
everybody; gathered for longer, the same records cost less. Linux counts for how long a thread was ready to run and had
to wait (`/proc/self/schedstat`, the second number, in nanoseconds); where nobody counts, the pace stays as it is.
"""

from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 0.5
#: Of the time that passed: with more of it spent waiting, gather longer; with less, shorter.
SHORT, ENOUGH = 0.12, 0.04
STEP = 1.5
_COUNTED = Path("/proc/self/schedstat")


def waited_seconds() -> float:
    """For how long this process's main thread has waited for a processor; 0 where nobody counts."""
    try:
        return int(_COUNTED.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Pace:
    """Between `least` and `most` milliseconds; looked at with each batch, at most twice a second."""

    def __init__(self, least: int, most: int, waited: Callable[[], float] = waited_seconds) -> None:
        self._least = least
        self._most = most
        self._waited = waited
        self._milliseconds = float(least)
        self._looked: tuple[float, float] | None = None

    def milliseconds(self, now: float) -> int:
        """How long to gather. `now`: seconds of any steady clock."""
        if self._looked is None:
            self._looked = now, self._waited()
        passed = now - self._looked[0]
        if passed >= LOOK_SECONDS:
            waited = self._waited()
            share = (waited - self._looked[1]) / passed
            self._looked = now, waited
            if share > SHORT:
                self._milliseconds = min(self._milliseconds * STEP, self._most)
            elif share < ENOUGH:
                self._milliseconds = max(self._milliseconds / STEP, self._least)
        return int(self._milliseconds)
