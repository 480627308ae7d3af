"""Run by its path, as a child of its own: ties itself to its parent's life, drops rights, becomes the server.

    python -I -S exec_child.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENT...

UID and GID are -1 to stay who we are; DEATH_SIGNAL is 0 where a watchdog does the work. It is a program rather than
a `preexec_fn` because Python code between fork and exec can deadlock in a process with threads.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: becomes PROGRAM, or ends with 127 and a line on stderr."""
    parent, death_signal, uid, gid = (int(word) for word in sys.argv[1:5])
    program = sys.argv[5:]
    die_with_parent = parent_death_signal(death_signal) if death_signal else None
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if die_with_parent:
        # After setuid: a change of credentials clears it.
        die_with_parent()
        # The parent may have died before that call; then we were handed to another parent and would never hear of it.
        if os.getppid() != parent:
            sys.exit(1)
    try:
        os.execv(program[0], program)
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        sys.exit(127)


def parent_death_signal(signal: int) -> Callable[[], None]:
    """The call that ties us to our parent; loaded now, since another user may be unable to read Python's files."""
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def call() -> None:
        if prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0:
            sys.exit("prctl(PR_SET_PDEATHSIG) failed")

    return call


if __name__ == "__main__":
    main()
