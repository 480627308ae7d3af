"""How commands end: a known error is one clear message, Ctrl-C a clean stop; never a stack trace."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import typer

from infra.errors import InfraError
from infra.server import first_error
from streams.kit.errors import PavaneError

FAILED = 1
INTERRUPTED = 130
THREADS_SECONDS = 1.0
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Coroutine[Any, Any, int], failed: int = FAILED) -> None:
    """Run a command to its exit code. Ctrl-C (or SIGTERM) stops everything in order; a second one does so at once.

    `failed`: the exit code when it ends with an error that is explained.
    """
    runner: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        runner = uvloop.run
    with explained(failed):
        raise typer.Exit(runner(_stoppable(work)))


@contextlib.contextmanager
def explained(code: int = FAILED) -> Iterator[None]:
    """Turns what is known to go wrong into its message on standard error, and the exit code."""
    try:
        yield
    except Exception as error:
        # Of what failed side by side, the first that has a message for the user.
        first = first_error(error)
        if not isinstance(first, PavaneError | InfraError | TimeoutError):
            raise
        sys.stderr.write(f"pavane: {first}\n")
        raise typer.Exit(code) from None


async def _stoppable(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if stopping:
            # At once: all that was started is bound to this process and ends with it.
            os._exit(INTERRUPTED)
        stopping = True
        task.cancel()
        # The terminal may be what has gone: then nobody can be told.
        with contextlib.suppress(OSError):
            sys.stderr.write("\nStopping everything.\n")

    for number in _STOPPING:
        # A terminal that goes is ignored from the start where nohup said so. An interrupt is, too, in what a script
        # starts in the background; but who sends it there means it.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        await _leave_threads(loop)
        return INTERRUPTED


async def _leave_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Wait for what still runs in threads, but not long: they cannot be called off."""
    ending = asyncio.ensure_future(loop.shutdown_default_executor())
    # Not `wait_for`: to call this off is to wait for the threads after all.
    _, running = await asyncio.wait({ending}, timeout=THREADS_SECONDS)
    if running:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


def is_terminal() -> bool:
    """Whether somebody sees what is printed."""
    return sys.stdout.isatty()
