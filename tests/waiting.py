"""Waiting for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

LOOK_AGAIN_SECONDS = 0.02
#: Whoever has waited for long looks again after this share of it: to look costs a connection, or a process.
SHARE = 0.05
SELDOMEST_SECONDS = 0.25


async def eventually(
    condition: Callable[[], Any] | Callable[[], Awaitable[Any]], within_seconds: float = 20.0, what: str = ""
) -> Any:
    """What `condition` gives (or awaits) as soon as it is true; fails, with what it last gave, when it stays false."""
    begun = time.monotonic()
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        waited = time.monotonic() - begun
        assert waited < within_seconds, f"{what or condition}: still {found!r} after {within_seconds:.0f} seconds"
        await asyncio.sleep(min(LOOK_AGAIN_SECONDS + SHARE * waited, SELDOMEST_SECONDS))
