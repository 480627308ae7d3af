"""Calling off tasks for good."""

import asyncio
from typing import Any

AGAIN_SECONDS = 0.2


async def called_off(*tasks: "asyncio.Task[Any] | None", again_seconds: float = AGAIN_SECONDS) -> None:
    """Return when they have ended, however they did. `again_seconds`: longer than they need to tidy up.

    Asked again and again: `asyncio.wait_for`, before Python 3.12, forgets a cancellation that comes in the same moment
    as what it waits for, and then a task that never ends by itself goes on.
    """
    left = {task for task in tasks if task is not None}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=again_seconds)
        for task in done:
            if not task.cancelled():
                task.exception()
