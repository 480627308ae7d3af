"""Which machine this is, in the words of the wheels."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from infra.errors import PlatformWithoutWheel


def this_platform() -> str:
    """Such as "Linux x86_64 (musl)"."""
    libc = "" if platform.system() != "Linux" or platform.libc_ver()[0] else " (musl)"
    return f"{platform.system()} {platform.machine()}{libc}"


def wheel_version(wheel: str, *variables: str) -> str:
    """The installed version. `PlatformWithoutWheel` when there is none; `variables` name a server of one's own."""
    try:
        return version(wheel)
    except PackageNotFoundError:
        raise PlatformWithoutWheel(wheel, this_platform(), *variables) from None
