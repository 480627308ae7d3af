"""Points at which a process can be made to die or to freeze, so that tests can show what survives it.

    PAVANE_FAULT_POINT=after-commit:3 python -m streams.kit.run billing
    PAVANE_FAULT_POINT=after-commit:3:freeze python -m streams.kit.run billing

The first kills itself (SIGKILL: no handler runs, nothing is flushed) when it has committed its third batch, before
anything of it is said. The second stands still there (SIGSTOP) until it is woken up, and goes on as if nothing was.
The variable is read once, at import; without it a point costs one comparison.
"""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar, get_args

from streams.kit.errors import WrongSetting

T = TypeVar("T")

VARIABLE = "PAVANE_FAULT_POINT"
FREEZE = "freeze"

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
    "before-forget",  # outbox rows that the log has acknowledged are about to be deleted
    "after-forget",  # they are deleted
]
"""In the order in which a process comes to them."""

POINTS: tuple[Point, ...] = get_args(Point)


def reached(point: Point) -> None:
    """Die or freeze here, if this is the point that was set and it is reached for the n-th time."""
    if _set is not None and point == _set:
        _count()


def awaited(point: Point) -> bool:
    """Whether this point was set: what only it needs to know may then be asked for."""
    return _set is not None and point == _set


async def halfway(point: Point, parts: Sequence[T], do: Callable[[Sequence[T]], Awaitable[None]]) -> None:
    """Like `reached`, where there are several parts to do: do the first half of them, then die or freeze."""
    if _set is not None and point == _set and len(parts) > 1:
        if _left == 1:
            await do(parts[: len(parts) // 2])
        _count()


def _count() -> None:
    global _left
    _left -= 1
    if _left == 0:
        does, by = ("freezes", signal.SIGSTOP) if _freezes else ("kills itself", signal.SIGKILL)
        # Not the logger: what it has buffered would be lost.
        os.write(2, f"fault point {_set} is reached, the process {does}\n".encode())
        os.kill(os.getpid(), by)


def _read(text: str) -> tuple[Point | None, int, bool]:
    """Which point, how many times it must be reached, and whether the process freezes there. Raises `WrongSetting`."""
    if not text:
        return None, 0, False
    name, _, rest = text.partition(":")
    times, freeze, more = rest.partition(f":{FREEZE}")
    for point in POINTS:
        if point == name and times.isdecimal() and int(times) > 0 and not more:
            return point, int(times), bool(freeze)
    raise WrongSetting(
        f"{VARIABLE} (where this process kills itself, as point:n, or freezes, as point:n:{FREEZE}): is {text!r}; "
        f"points are {', '.join(POINTS)}"
    )


_set, _left, _freezes = _read(os.environ.get(VARIABLE, ""))
