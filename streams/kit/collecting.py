"""How often Python looks for cycles of objects that nothing else refers to."""

import gc

AFTER_OBJECTS = 100_000
"""So many more objects than at the last look (Python's own default: 700)."""


def collect_seldom() -> None:
    """From now on. What was imported and connected so far stays, and is not looked at again.

    What a process holds in thousands, queued records, requests under way, goes without having been part of a cycle; and
    looking at it again and again took a fifth of a busy worker's time.
    """
    gc.freeze()
    gc.set_threshold(AFTER_OBJECTS)
