"""Ending a process when it is asked to, and within a bound, whatever hangs.

SIGTERM and SIGINT are waited for by a thread of their own. A handler of the event loop would wait for the loop; when
that is blocked, or waits for a server that does not answer, the thread still ends the process. Nothing is lost by it:
what was committed is said by the next owner of the lanes, and what was not is heard again.
"""

import asyncio
import os
import signal
import threading
import time

from streams.kit.liveness import stack_of, waits_of
from streams.kit.logs import logger

ENDS_WITHIN_SECONDS = 8.0
"""Below the ten seconds after which those who asked usually kill."""
OVERDUE = 1
_ASKING = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """Made in the main thread, before any other thread is started: they inherit that these signals are not theirs."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ASKING)

    def sets(self, stop: asyncio.Event) -> None:
        """From now on a signal sets `stop`, of the loop that runs; the process has ended within the bound after it."""
        words = (asyncio.get_running_loop(), stop, threading.get_ident())
        threading.Thread(target=_wait, args=words, name="ending", daemon=True).start()


def _wait(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, thread: int) -> None:
    signal.sigwait(_ASKING)
    loop.call_soon_threadsafe(stop.set)
    time.sleep(ENDS_WITHIN_SECONDS)
    # Still here, so something hangs: the loop itself, or what its tasks wait for.
    where = {"stack": stack_of(thread), "waits": waits_of(loop)}
    logger().error("stop_overdue", after_seconds=ENDS_WITHIN_SECONDS, **where)
    os._exit(OVERDUE)
