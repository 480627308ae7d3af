"""Makes the virtual environment, when there is none or it is not that of `requirements.lock`. Standard library only.

    python3 -I pavane/bootstrap.py

Run by `make` before everything else. A stamp in the environment says what it holds; equal: nothing is done, and nothing
is asked of the network. It is written last, so that an installation that was broken off is taken up again.
"""

import fcntl
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "pavane.json"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
PYTHON = VENV / "bin" / "python"
MEGABYTES = 470
PLAIN_LINE_SECONDS = 5.0
MOST_SHOWN_LINES = 12


def main() -> int:
    """The exit code: 0 when the environment is there."""
    wanted = state()
    if is_ready(wanted):
        return 0
    try:
        with alone():
            return 0 if is_ready(wanted) else built(wanted)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What was fetched is kept for the next time.\n")
        return 130


def is_ready(wanted: dict[str, str]) -> bool:
    # A link to a Python that was removed does not exist.
    return stamp() == wanted and PYTHON.exists()


@contextmanager
def alone() -> Iterator[None]:
    """For the length of the block no other `make` changes the environment. The lock goes with the process."""
    with Path(__file__).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another make is at {VENV.name} already: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def built(wanted: dict[str, str]) -> int:
    """Make what is missing; the exit code."""
    found = stamp()
    try:
        if not PYTHON.exists() or found.get("venv") != wanted["venv"]:
            make()
            found = {}
        if found.get("lock") != wanted["lock"]:
            install(LOCK.read_text().count("=="))
        run("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    except Failed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    STAMP.write_text(json.dumps(wanted))
    return 0


class Failed(Exception):
    """What went wrong, for the user."""


def state() -> dict[str, str]:
    """What an environment must be made from. Its own place is part of it: its scripts hold it."""
    return {
        "venv": str(VENV),
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "project": hashlib.sha256(PROJECT.read_bytes()).hexdigest(),
    }


def stamp() -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return found


def make() -> None:
    """An empty environment with pip."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Failed(
            f"{sys.executable} cannot make virtual environments: its modules venv and ensurepip are missing. "
            f"On Debian and Ubuntu they are the package python{version}-venv; or name another Python with PYTHON=."
        )
    say(f"Making {VENV.name} with Python {sys.version.partition(' ')[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    done = subprocess.run([sys.executable, "-I", "-m", "venv", str(VENV)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"The virtual environment could not be made:\n{last(done.stdout + done.stderr)}")


def install(packages: int) -> None:
    """Everything in the lock, each file checked by its hash."""
    begun = time.monotonic()
    say(f"First time, or the lock has changed: installing {packages} packages, about {MEGABYTES} MB on disk")
    words = ("-m", "pip", "install", "--no-deps", "--require-hashes", "--progress-bar", "off", "-r", str(LOCK))
    process = subprocess.Popen([str(PYTHON), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = list(shown(process.stdout, packages))
    if process.wait() != 0:
        raise Failed(f"Not everything could be installed:\n{last(''.join(lines))}\nStart again: it goes on from here.")
    say(f"Installed in {time.monotonic() - begun:.0f} s\n")


def shown(lines: Iterator[str], packages: int) -> Iterator[str]:
    """Pass pip's lines on, and show how far it is: one moving line on a terminal, else a line now and then."""
    moving, last_shown, count = sys.stdout.isatty(), time.monotonic(), 0
    for line in lines:
        yield line
        what = re.match(r"Collecting ([^ =]+)|(Installing collected packages)", line)
        if what is None:
            continue
        count += bool(what[1])
        text = f"  {count} of at most {packages}: {what[1]}" if what[1] else "  unpacking"
        if moving:
            sys.stdout.write(f"\r\x1b[K{text}")
            sys.stdout.flush()
        elif what[2] or time.monotonic() - last_shown > PLAIN_LINE_SECONDS:
            last_shown = time.monotonic()
            say(text)
    if moving:
        sys.stdout.write("\r\x1b[K")


def run(*words: str) -> None:
    done = subprocess.run([str(PYTHON), *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"This did not work: {' '.join(words)}\n{last(done.stdout + done.stderr)}")


def last(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-MOST_SHOWN_LINES:])


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
