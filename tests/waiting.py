"""Waiting for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

LOOK_AGAIN_SECONDS = 0.02


async def eventually(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]], within_seconds: float = 20.0, what: str = ""
) -> Any:
    """What `condition` gives (or awaits) as soon as it is true; fails, with what it last gave, when it stays false."""
    deadline = time.monotonic() + within_seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"{what or condition}: still {found!r} after {within_seconds:.0f} seconds"
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
