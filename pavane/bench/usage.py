"""CPU seconds and memory of every process, over time.

A thread looks at each process once a second; what was used between two moments is interpolated between looks.
"""

import contextlib
import os
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

BETWEEN_LOOKS_SECONDS = 1.0
LOOKS_BETWEEN_MEMORY = 4

Pids = Callable[[], Mapping[str, int]]


class Usage:
    """Watches the processes that `pids` names, which may come and go; a name's children count as itself.

    `pids` is called from a thread. This process's own children do not count as itself: they have names of their own.
    CPU of a process that ended between two looks is lost from its last look on.
    """

    def __init__(self, pids: Pids) -> None:
        self._pids = pids
        self._looks: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._gone: dict[str, float] = defaultdict(float)
        self._last: dict[str, tuple[int, float]] = {}
        self._peaks: dict[str, int] = defaultdict(int)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def cpu_seconds(self, begin: float, end: float) -> dict[str, float]:
        """CPU seconds by name between two moments of `time.time()`."""
        return {name: _at(looks, end) - _at(looks, begin) for name, looks in self._looks.items()}

    def peak_memory(self) -> dict[str, int]:
        """The most bytes that each name held at a look; what processes share is counted once (PSS)."""
        return dict(self._peaks)

    def _watch(self) -> None:
        number = 0
        while not self._ending.is_set():
            for name, pid in self._pids().items():
                with contextlib.suppress(psutil.Error, OSError):
                    self._look(name, pid, number % LOOKS_BETWEEN_MEMORY == 0)
            number += 1
            self._ending.wait(BETWEEN_LOOKS_SECONDS)

    def _look(self, name: str, pid: int, at_memory: bool) -> None:
        process = psutil.Process(pid)
        family = [process] if pid == os.getpid() else [process, *process.children(recursive=True)]
        own = process.cpu_times()
        cpu = own.user + own.system
        if pid != os.getpid():
            cpu += own.children_user + own.children_system
        for child in family[1:]:
            with contextlib.suppress(psutil.Error):
                times = child.cpu_times()
                cpu += times.user + times.system
        before = self._last.get(name)
        if before is not None and before[0] != pid:
            self._gone[name] += before[1]
        self._last[name] = pid, cpu
        self._looks[name].append((time.time(), self._gone[name] + cpu))
        if at_memory:
            self._peaks[name] = max(self._peaks[name], sum(memory(each.pid) for each in family))


def memory(pid: int) -> int:
    """The bytes that a process holds now; what it shares is divided among those who do (PSS). 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def _at(looks: list[tuple[float, float]], moment: float) -> float:
    """The value at a moment, on the line between the looks around it."""
    place = bisect_left(looks, (moment, 0.0))
    if place == 0:
        return looks[0][1]
    if place == len(looks):
        return looks[-1][1]
    (before, low), (after, high) = looks[place - 1], looks[place]
    return low + (high - low) * (moment - before) / (after - before)
