"""Starting a child so that, however the launcher ends, the child does not outlive it.

On Linux the kernel does it: `prctl(PR_SET_PDEATHSIG)`, set in the child (`exec_child.py`). The signal fires when the
*thread* that forked ends, so every child is forked by one thread that lives as long as this process. Elsewhere a
watchdog process reads a pipe from this one and kills what is listed when the pipe ends (`watchdog.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

EXEC_CHILD = Path(__file__).with_name("exec_child.py")
WATCHDOG = Path(__file__).with_name("watchdog.py")

#: As a log file: this process's own standard error, as it is. By its path it could not be opened where it is a socket
#: (systemd's journal) or a terminal of somebody else (after `su`).
STDERR = Path("/dev/stderr")
LONGEST_LINE = 300

#: The one thread that forks. It ends with the interpreter, and then the children that were not stopped end too.
_forking = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forks-children")


@dataclass(frozen=True)
class User:
    """Whom a child runs as, when the launcher is root."""

    uid: int
    gid: int


class Child:
    """A process that does not outlive this one; stdout and stderr are appended to `log_file`, or go to `STDERR`.

    `argv[0]` is the path of a program. `env` is its whole environment: nothing is inherited. `death_signal` is what it
    gets when this process dies, `stop_signal` what `stop` sends first. `user` needs root. Starts at once; `OSError`
    when not even Python can be started. A program that cannot be run ends with code 127 and says why in its log.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        log_file: Path,
        cwd: Path | None = None,
        user: User | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log_file = log_file
        self.stop_signal = stop_signal
        self._log_start = log_file.stat().st_size if log_file.exists() else 0
        who = user or User(-1, -1)
        tied = int(death_signal) if sys.platform == "linux" else 0
        words = [os.getpid(), tied, who.uid, who.gid]
        command = [sys.executable, "-I", "-S", str(EXEC_CHILD), *map(str, words), *argv]
        self._process = _forking.submit(_fork, command, env, log_file, cwd).result()
        self._watched = not tied
        if self._watched:
            _watchdog().watch(self.pid, death_signal)

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code once it has ended (negative: the signal that ended it), else None."""
        code = self._process.poll()
        if code is not None and self._watched:
            self._watched = False
            _watchdog().forget(self.pid)
        return code

    async def wait(self, timeout_seconds: float) -> int | None:
        """The exit code, or None when it still runs after that time."""
        deadline = time.monotonic() + timeout_seconds
        while (code := self.poll()) is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return code

    def wait_here(self) -> int:
        """Block until it has ended: for tools, not for servers."""
        self._process.wait()
        code = self.poll()
        assert code is not None
        return code

    async def stop(self, timeout_seconds: float = 10.0) -> int:
        """Ask it to end, wait that long, then kill it. The exit code; nothing happens when it has ended already."""
        if self.poll() is None:
            self.resume()
            self._process.send_signal(self.stop_signal)
            await self.wait(timeout_seconds)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to it and all it started; returns when it is gone."""
        if self.poll() is None:
            self._signal_tree(signal.SIGKILL)
            self._process.wait()
        code = self.poll()
        assert code is not None
        return code

    def give_way(self, niceness: int) -> None:
        """Let others have the processor first where it is short: see `give_way`."""
        give_way(self.pid, niceness)

    def pause(self) -> None:
        """Freeze it and all it started (SIGSTOP)."""
        self._signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._signal_tree(signal.SIGCONT)

    def listens(self, port: int) -> bool:
        """Whether it, and not somebody else, accepts connections on that port. True where that cannot be told."""
        try:
            sockets = psutil.Process(self.pid).net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            # Root in a container may not look into a child that runs as somebody else (CAP_SYS_PTRACE).
            return True
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)

    def log_tail(self, lines: int = 15) -> list[str]:
        """The last lines it wrote since this start, Java's stack frames left out."""
        with contextlib.suppress(OSError), self.log_file.open("rb") as log:
            log.seek(max(self._log_start, os.fstat(log.fileno()).st_size - 64_000))
            written = log.read().decode(errors="replace").splitlines()
            told = [line for line in written if line.strip() and not line.startswith(("\tat ", "\t... "))]
            return [line[:LONGEST_LINE] for line in told[-lines:]]
        return []

    def _signal_tree(self, number: signal.Signals) -> None:
        # The parent first: a paused or dead parent starts no further children.
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            children = process.children(recursive=True)
            for each in (process, *children):
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.send_signal(number)


def give_way(pid: int, niceness: int) -> None:
    """Let others have the processor before that process, which is a session of its own; `niceness` from 1 to 19.

    Where the system does not let it, it goes on as an equal.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    # Linux shares the processor among sessions first (sched(7), autogroup). Without the capability CAP_SYS_ADMIN it
    # takes one such wish in a tenth of a second: nobody waits for that.
    threading.Thread(target=_have_session_give_way, args=(pid, niceness), name="give-way", daemon=True).start()


def _have_session_give_way(pid: int, niceness: int) -> None:
    with contextlib.suppress(OSError):
        for attempt in Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            wait=wait_fixed(0.1),
            stop=stop_after_attempt(50),
            reraise=True,
        ):
            with attempt:
                Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _fork(command: list[str], env: Mapping[str, str], log_file: Path, cwd: Path | None) -> subprocess.Popen[bytes]:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(2) if log_file == STDERR else log_file.open("ab") as log:
        return subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C at the terminal is for the launcher, which then stops its children in order.
            start_new_session=True,
        )


class _Watchdog:
    """The process that outlives this one just long enough to end its children."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WATCHDOG)], stdin=subprocess.PIPE, text=True, start_new_session=True
        )

    def watch(self, pid: int, death_signal: signal.Signals) -> None:
        self._write(f"+{pid} {int(death_signal)}\n")

    def forget(self, pid: int) -> None:
        self._write(f"-{pid}\n")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()


_the_watchdog: list[_Watchdog] = []


def _watchdog() -> _Watchdog:
    if not _the_watchdog:
        _the_watchdog.append(_Watchdog())
    return _the_watchdog[0]
