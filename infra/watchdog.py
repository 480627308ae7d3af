"""Run by its path, where the kernel cannot tie a child to its parent's life (any Unix but Linux).

Reads lines `+PID SIGNAL` and `-PID` from its input. When the input ends, the launcher is gone, however it went: every
process still listed gets its signal, and SIGKILL after a grace period. A process the launcher has seen end is taken
off the list at once, so a number that the system gives to somebody else later is never signalled.
"""

from __future__ import annotations

import os
import signal
import sys
import time

GRACE_SECONDS = 5.0


def main() -> None:
    """Returns when every listed process was told to go."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    listed: dict[int, int] = {}
    for line in sys.stdin:
        if line.startswith("+"):
            pid, number = line[1:].split()
            listed[int(pid)] = int(number)
        elif line.startswith("-"):
            listed.pop(int(line[1:]), None)
    for pid, number in listed.items():
        tell(pid, number)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(tell(pid, 0) for pid in listed) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in listed:
        tell(pid, signal.SIGKILL)


def tell(pid: int, number: int) -> bool:
    """Whether the process was there to be told."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
