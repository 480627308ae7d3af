"""Points at which a process can be made to die, so that tests can show what survives it.

    PAVANE_FAULT_POINT=after-commit:3 python -m streams.kit.run billing

This process kills itself (SIGKILL: no handler runs, nothing is flushed) when it has committed its third batch, before
anything of it is said. The variable is read once, at import; without it a point costs one comparison.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar, get_args

from streams.kit.errors import WrongSetting

T = TypeVar("T")

VARIABLE = "PAVANE_FAULT_POINT"

Point = Literal[
    "after-takeover",  # the lane's epoch is raised, nothing of it was read or said
    "after-read",  # records are in memory only
    "before-ask",  # effects are decided, the world knows of none
    "after-ask",  # the world has done them, and nobody has written down that it did
    "after-fold",  # a batch is decided; with shared rows: under their locks
    "before-commit",  # a batch is about to be committed; with shared rows: everything is sent but COMMIT
    "after-commit",  # committed, nothing is said
    "half-said",  # of several facts in one append the first half is in the log
    "after-said",  # the log has acknowledged an append, the outbox does not know it
    "before-forget",  # acknowledged outbox rows are about to be deleted
]
"""In the order in which a process comes to them."""

POINTS: tuple[Point, ...] = get_args(Point)


def reached(point: Point) -> None:
    """Die here, if this is the point that was set and it is reached for the n-th time."""
    if _set is not None and point == _set:
        _count()


async def halfway(point: Point, parts: Sequence[T], do: Callable[[Sequence[T]], Awaitable[None]]) -> None:
    """Like `reached`, where there are several parts to do: do the first half of them, then die."""
    if _set is not None and point == _set and len(parts) > 1:
        if _left == 1:
            await do(parts[: len(parts) // 2])
        _count()


def _count() -> None:
    global _left
    _left -= 1
    if _left == 0:
        # Not the logger: what it has buffered would be lost.
        os.write(2, f"fault point {_set} is reached, the process kills itself\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def _read(text: str) -> tuple[Point | None, int]:
    """Which point, and how many times it must be reached. Raises `WrongSetting`."""
    if not text:
        return None, 0
    name, _, times = text.partition(":")
    for point in POINTS:
        if point == name and times.isdecimal() and int(times) > 0:
            return point, int(times)
    raise WrongSetting(
        f"{VARIABLE} (where this process kills itself, as point:n): is {text!r}; points are {', '.join(POINTS)}"
    )


_set, _left = _read(os.environ.get(VARIABLE, ""))
