"""Waiting for a condition, and a launcher to be killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], object], within_seconds: float = 15.0) -> None:
    """Return as soon as the condition holds; fail when it does not within that time."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {within_seconds:.0f} seconds"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Launcher:
    """A Python process of its own that runs a script; the script prints a line when it is ready."""

    def __init__(self, script: str, *arguments: str) -> None:
        command = [sys.executable, "-c", script, *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline().strip()
        assert self.line, "the launcher ended before it was ready"

    def sigkill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def launch() -> Iterator[Callable[..., Launcher]]:
    """Start launchers; what still runs at the end is killed."""
    launched: list[Launcher] = []

    def start(script: str, *arguments: str) -> Launcher:
        launched.append(Launcher(script, *arguments))
        return launched[-1]

    yield start
    for each in launched:
        each.sigkill()
        assert each.process.stdout is not None
        each.process.stdout.close()


@pytest.fixture
def eventually() -> Callable[..., None]:
    return until


@pytest.fixture
def alive() -> Callable[[int], bool]:
    return is_alive
