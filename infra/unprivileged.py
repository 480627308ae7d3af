"""Running a server as somebody else when we are root, without changing the system.

PostgreSQL refuses to be root. It then runs as `nobody`, who may neither reach the wheel (a virtual environment under a
home of mode 0700) nor the data folder. The wheel's files are then copied where everybody may read. The data folder is
not moved: the child enters it while still root and is given `/proc/self/cwd` for its name, which opens without walking
the path.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from infra.cache import fresh_folder
from infra.errors import InfraError
from infra.processes import User

NOBODY = 65534
#: Where everybody may read, outside of any home; the first that allows programs to run.
OPEN_PLACES = (Path("/var/tmp"), Path("/tmp"))


def unprivileged_user() -> User | None:
    """Whom to run as; None when we are not root and may simply stay who we are."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return User(NOBODY, NOBODY)
    return User(entry.pw_uid, entry.pw_gid)


def own_folder_name(folder: Path, user: User | None) -> str:
    """How a child whose working folder is `folder` names it. `InfraError` where there is no way for this user."""
    if user is None or is_reachable(folder):
        return str(folder)
    if sys.platform == "linux":
        return "/proc/self/cwd"
    raise InfraError(
        f"{folder} cannot be reached by an unprivileged user, and PostgreSQL does not run as root. "
        "Run as another user, or choose a folder with DATA= that everybody may enter."
    )


def is_reachable(path: Path) -> bool:
    """Whether everybody may walk to `path` (not: read it)."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def is_readable(folder: Path) -> bool:
    """Whether everybody may walk to `folder`, list it and enter it."""
    return is_reachable(folder) and folder.stat().st_mode & 0o005 == 0o005


def open_place() -> Path:
    """A folder that everybody can enter and run programs from."""
    for place in OPEN_PLACES:
        if place.is_dir() and is_readable(place) and not os.statvfs(place).f_flag & os.ST_NOEXEC:
            return place
    raise InfraError(
        f"PostgreSQL does not run as root, and none of {', '.join(map(str, OPEN_PLACES))} can hold its programs "
        "for another user. Run as another user, or name a server with PAVANE_DATABASE_ADMIN."
    )


def copy_for_everybody(name: str, copy: Callable[[Path], None]) -> Path:
    """The folder `name` in an open place, made by `copy(folder)` the first time; root's, and nobody else's to write."""
    folder = open_place() / name
    if not folder.exists():
        with fresh_folder(folder) as fresh:
            fresh.chmod(0o755)
            copy(fresh)
    found = folder.lstat()
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise InfraError(f"{folder} belongs to somebody else or can be written by others; remove it and start again.")
    return folder
