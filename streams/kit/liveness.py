"""Whether a process still gets on: how long its worker has got nowhere, and where its code stands.

A supervisor, or whoever asks the management port, decides what to do about it: nothing here ends a process.
"""

import asyncio
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any


class Progress:
    """When a worker's loop last turned, and when each lane last got on: records were heard, or there were none to hear.

    A worker that waits for a dependency, and says so, counts as one that gets on: a new start would not help it.
    Written by the worker's loop and read by other threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_at: float | None = None
        self._lanes: dict[int, float] = {}

    def note(self, *lanes: int) -> None:
        """The loop turned, and these lanes got on."""
        self._turned_at = now = self._clock()
        self._lanes.update(dict.fromkeys(lanes, now))

    def forget(self, lane: int) -> None:
        """The lane is no longer ours."""
        self._lanes.pop(lane, None)

    @property
    def idle_with_lag_seconds(self) -> float:
        """How long a lane's records have waited, or the loop has not turned: the longer one; 0 before the start."""
        if self._turned_at is None:
            return 0.0
        return self._clock() - min((self._turned_at, *self._lanes.values()))


def stack_of(thread: int) -> str:
    """Where this thread's code stands now, outermost call first; empty when there is no such thread any more."""
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""


def waits_of(loop: asyncio.AbstractEventLoop) -> Mapping[str, str]:
    """What each of the loop's tasks waits in, by its name: `outer > inner at file:line`. Asked by any thread."""
    return {task.get_name(): _way_down(task.get_coro()) for task in asyncio.all_tasks(loop)}


def _way_down(coroutine: Any) -> str:
    names, at = [], ""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        names.append(frame.f_code.co_name)
        at = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        coroutine = coroutine.cr_await
    return " > ".join(names) + at
