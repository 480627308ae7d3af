"""Children end when they are told to, and when their launcher is no more, however it went."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.processes import Child, User

LAUNCHER = """
import sys, time
from pathlib import Path
import psutil
if sys.argv[2] == "watchdog":
    sys.platform = "a Unix without prctl"
from infra.processes import Child
child = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], {}, Path(sys.argv[1]) / "log")
print(child.pid, flush=True)
time.sleep(600)
"""
SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
TO_STDERR = """
import sys
from infra.processes import STDERR, Child
child = Child("sayer", [sys.executable, "-c", "print('said by the child')"], {}, STDERR)
sys.exit(child.wait_here())
"""
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"

Starter = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path, eventually: Callable[..., None]) -> Iterator[Starter]:
    started: list[Child] = []

    def start(script: str, **more: Any) -> Child:
        child = Child("child", [sys.executable, "-c", script], {"PATH": os.environ["PATH"]}, tmp_path / "log", **more)
        started.append(child)
        eventually(lambda: child.log_tail() or child.poll() is not None)
        return child

    yield start
    for child in started:
        child.kill()


@pytest.mark.parametrize("how", ["prctl", "watchdog"])
def test_sigkill_of_the_launcher_leaves_no_child(
    how: str, launch: Callable[..., Any], alive: Callable[[int], bool], eventually: Callable[..., None], tmp_path: Path
) -> None:
    launcher = launch(LAUNCHER, str(tmp_path), how)
    child = int(launcher.line)
    assert alive(child)

    launcher.sigkill()

    eventually(lambda: not alive(child))


def test_a_child_survives_the_thread_that_asked_for_it(start: Starter) -> None:
    children: list[Child] = []
    thread = threading.Thread(target=lambda: children.append(start(SLEEP)))
    thread.start()
    thread.join()

    assert children[0].poll() is None


def test_who_may_not_look_into_a_child_takes_it_for_listening(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root in a container, of a server that runs as nobody: the server's own answer decides then."""
    child = start(SLEEP)
    assert not child.listens(1)

    def refuse(process: psutil.Process, kind: str) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "net_connections", refuse)

    assert child.listens(1)


async def test_stop_asks_first(start: Starter) -> None:
    child = start(SLEEP)

    assert await child.stop() == -signal.SIGTERM


async def test_a_child_that_does_not_listen_is_killed_after_the_bound(start: Starter) -> None:
    child = start(STUBBORN)

    assert await child.stop(timeout_seconds=0.2) == -signal.SIGKILL


async def test_a_frozen_child_can_be_stopped(start: Starter) -> None:
    child = start(SLEEP)
    child.pause()

    assert await child.stop() == -signal.SIGTERM


def test_pause_freezes_and_resume_lets_go_on(start: Starter, eventually: Callable[..., None]) -> None:
    child = start(SLEEP)
    process = psutil.Process(child.pid)

    child.pause()
    eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    child.resume()
    eventually(lambda: process.status() != psutil.STATUS_STOPPED)


def test_kill_takes_the_childs_own_children_along(
    start: Starter, alive: Callable[[int], bool], eventually: Callable[..., None]
) -> None:
    child = start(f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid); {SLEEP}")
    grandchild = int(child.log_tail()[0])

    child.kill()

    eventually(lambda: not alive(grandchild))


async def test_a_program_that_cannot_run_says_so_in_its_log(tmp_path: Path) -> None:
    child = Child("nothing", ["/no/such/program"], {}, tmp_path / "log")

    assert await child.wait(10) == 127
    assert child.log_tail() == ["cannot run /no/such/program: No such file or directory"]


def test_the_tail_of_the_log_has_neither_java_frames_nor_an_earlier_start(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("of an earlier start\n")
    child = Child("liar", ["/bin/printf", "it broke\\n\\tat a.b.C\\n\\n\\t... 3 more\\ncause\\n"], {}, tmp_path / "log")
    child.wait_here()

    assert child.log_tail() == ["it broke", "cause"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a child as somebody else")
def test_a_child_can_run_as_somebody_else_and_still_dies_with_its_launcher(
    launch: Callable[..., Any], alive: Callable[[int], bool], eventually: Callable[..., None], tmp_path: Path
) -> None:
    script = LAUNCHER.replace("import Child", "import Child, User").replace(
        '[sys.executable, "-c", "import time; time.sleep(600)"], {}, Path(sys.argv[1]) / "log"',
        '["/bin/sleep", "600"], {}, Path(sys.argv[1]) / "log", user=User(65534, 65534)',
    )
    launcher = launch(script, str(tmp_path), "prctl")
    child = int(launcher.line)
    eventually(lambda: psutil.Process(child).name() == "sleep")
    assert psutil.Process(child).uids().real == User(65534, 65534).uid

    launcher.sigkill()

    eventually(lambda: not alive(child))


def test_a_child_that_gives_way_is_nicer_than_its_launcher_as_a_session_too(
    start: Starter, eventually: Callable[..., None]
) -> None:
    child = start(SLEEP)

    child.give_way(7)

    assert os.getpriority(os.PRIO_PROCESS, child.pid) == 7
    session = Path(f"/proc/{child.pid}/autogroup")
    eventually(lambda: not session.exists() or session.read_text().split()[-1] == "7")


def test_a_child_that_has_ended_gives_way_to_everybody(start: Starter) -> None:
    child = start("print('ready')")
    child.kill()

    child.give_way(7)

    assert child.poll() is not None


def test_a_child_says_to_standard_error_also_where_that_is_a_socket() -> None:
    ours, journal = socket.socketpair()
    with ours, journal:
        launcher = subprocess.run([sys.executable, "-c", TO_STDERR], stderr=journal, timeout=60, check=False)
        journal.close()
        said = b"".join(iter(lambda: ours.recv(4096), b"")).decode()

    assert (launcher.returncode, said) == (0, "said by the child\n")
