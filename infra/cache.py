"""The user's cache folder: jars, templates of fresh data folders, Java's start-up archives.

Everything in it can be deleted at any time; it comes back at the next start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.errors import DataFolderNotWritable


def cache_folder() -> Path:
    """`PAVANE_CACHE`, else `pavane` in `XDG_CACHE_HOME`, else `~/.cache/pavane`; made when missing.

    `DataFolderNotWritable` when it cannot be made.
    """
    named = os.environ.get("PAVANE_CACHE")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pavane"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataFolderNotWritable(folder, f"{error.strerror} (the cache; PAVANE_CACHE names another)") from None
    return folder.resolve()


@contextmanager
def fresh_folder(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that becomes `final` when the block ends well, and vanishes when it does not.

    Whoever comes first wins: when `final` appeared meanwhile, it is kept and ours is dropped.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        yield temporary
        try:
            temporary.rename(final)
        except OSError:
            if not final.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """One process at a time on this machine does the block of that name; the others wait."""
    with (cache_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
