"""The one disposable folder of a stack: who holds it, its passwords, and what runs from it.

pavane.lock      held (flock) while a stack runs; the system lets go of it when its holder dies, however it dies
stack.json       addresses and process ids of what runs now; only while it runs
secrets.json     the passwords of this folder's servers, made at the first start
kafka-1/ postgres/ apicurio/ valkey/    one folder a part, with its log file
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from infra.errors import DataFolderInUse, DataFolderNotWritable, DiskFull, NotADataFolder

LOCK = "pavane.lock"
NEEDED_BYTES = 1_000_000_000
LEFTOVER_SECONDS = 15.0


class DataFolder:
    """Held from `hold` to `release` by one stack of one process.

    `hold` raises `DataFolderInUse` naming the holder's pid, `DataFolderNotWritable`, `NotADataFolder` or `DiskFull`. A
    holder that died is no obstacle; what it left running is waited for: it is about to end too (`infra.processes`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: IO[str] | None = None

    def hold(self, afresh: bool = False) -> None:
        """`afresh`: whatever was in it is removed, once it is known to be ours and that nobody runs on it."""
        lock = self._open_lock()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise DataFolderInUse(self.path, f"pid {holder}" if holder else "just starting") from None
        self._lock = lock
        try:
            self._wait_for_leftovers()
            if afresh:
                self._empty()
            self._check_room()
        except BaseException:
            self.release()
            raise
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()

    def release(self) -> None:
        """Nothing happens when it is not held."""
        if self._lock is not None:
            self._state_file.unlink(missing_ok=True)
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def passwords(self, names: Sequence[str]) -> dict[str, str]:
        """A password for each name, the same at every start of this folder."""
        file = self.path / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        missing = {name: secrets.token_urlsafe(24) for name in names if name not in known}
        if missing:
            known |= missing
            _write_private(file, known)
        return {name: known[name] for name in names}

    def note_running(self, addresses: Mapping[str, str], pids: Mapping[str, int]) -> None:
        """Write `stack.json`: for people, for tools, and for the next start after a sudden end."""
        started = {}
        for name, pid in pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                started[name] = {"pid": pid, "started": psutil.Process(pid).create_time()}
        _write_private(self._state_file, {"pid": os.getpid(), "addresses": addresses, "processes": started})

    @property
    def _state_file(self) -> Path:
        return self.path / "stack.json"

    def _open_lock(self) -> IO[str]:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not (self.path / LOCK).exists() and any(self.path.iterdir()):
                raise NotADataFolder(self.path)
            return (self.path / LOCK).open("a+")
        except OSError as error:
            raise DataFolderNotWritable(self.path, error.strerror or str(error)) from None

    def _empty(self) -> None:
        for each in self.path.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()

    def _check_room(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < NEEDED_BYTES:
            raise DiskFull(self.path, free, NEEDED_BYTES)

    def _wait_for_leftovers(self) -> None:
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while leftovers := self._leftovers():
            if time.monotonic() > deadline:
                pids = ", ".join(str(pid) for pid in leftovers)
                raise DataFolderInUse(self.path, f"processes {pids}, left by one that died")
            time.sleep(0.05)

    def _leftovers(self) -> list[int]:
        """What the last stack.json names and still runs; a number the system gave to somebody else does not count."""
        try:
            state: dict[str, Any] = json.loads(self._state_file.read_text())
        except (OSError, ValueError):
            return []
        running = []
        for each in state["processes"].values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(each["pid"])
                if process.create_time() == each["started"] and process.status() != psutil.STATUS_ZOMBIE:
                    running.append(process.pid)
        return running


def _write_private(file: Path, content: Mapping[str, object]) -> None:
    temporary = file.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.rename(file)
