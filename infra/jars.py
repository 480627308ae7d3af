"""Kafka and Apicurio as jars, named and summed in `jars.lock`, kept in the user's cache folder.

    python -m infra.jars          fetch what is missing
    python -m infra.jars lock     resolve again what the versions below need, and write the lock (network)

A jar is in the cache under its name only after its sum was found right; its size and time of change are remembered, so
that a start checks a hundred jars without reading them. When all are there, nothing here asks the network.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from infra.cache import cache_folder, exclusive, fresh_folder
from infra.errors import CorruptJar, DiskFull, InfraError

LOCK_FILE = Path(__file__).with_name("jars.lock")

#: What the lock is made of: Maven coordinates, with all they need (Kafka) or just the file (the rest).
KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
#: Kafka speaks slf4j 1.7, so `log4j-slf4j-impl` and not `log4j-slf4j2-impl`; its version is that of Kafka's own
#: log4j-core.
KAFKA_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl"
APICURIO = "io.apicurio:apicurio-registry-app:3.3.3:all:tar.gz"

NEEDED_BYTES = 500_000_000


@dataclass(frozen=True)
class Jar:
    """One file of a Maven repository: `group:artifact:version[:classifier:type]`, and its sum."""

    part: str
    coordinates: str
    sha256: str

    @property
    def version(self) -> str:
        return self.coordinates.split(":")[2]

    @property
    def file_name(self) -> str:
        _, artifact, version, *rest = self.coordinates.split(":")
        classifier, kind = rest or ("", "jar")
        return f"{artifact}-{version}{f'-{classifier}' if classifier else ''}.{kind}"


_abandoned = threading.Event()

#: Downloads jars into a folder, under their `file_name`, in any order.
Downloader = Callable[[Iterable[Jar], Path], None]


def locked(part: str, lock_file: Path = LOCK_FILE) -> list[Jar]:
    """The jars of one part ("kafka" or "apicurio"), in the order of the lock, which is that of the class path."""
    lines = (line.split() for line in lock_file.read_text().splitlines() if line and not line.startswith("#"))
    return [Jar(*words) for words in lines if words[0] == part]


def abandon_downloads() -> None:
    """Make a download that runs in another thread fail soon."""
    _abandoned.set()


def kafka_class_path() -> list[Path]:
    """Kafka's jars, fetched when missing. `DownloadFailed`, `CorruptJar`."""
    return ensure(locked("kafka"), cache_folder() / "jars")


def apicurio_folder() -> Path:
    """The unpacked Apicurio, with `quarkus-run.jar` in it; fetched when missing. `DownloadFailed`, `CorruptJar`."""
    [archive] = locked("apicurio")
    folder = cache_folder() / f"apicurio-{archive.version}-{archive.sha256[:12]}"
    if not _is_whole(folder):
        with exclusive("apicurio"):
            if not _is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                [packed] = ensure([archive], cache_folder() / "jars")
                _unpack(packed, folder)
                packed.unlink()
    return folder


def ensure(jars: list[Jar], folder: Path, download: Downloader | None = None) -> list[Path]:
    """The paths of the jars in `folder`, each with the lock's sum.

    What is missing or does not have its sum is fetched; what comes with a wrong sum is fetched once more, then
    `CorruptJar`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    verified = _Verified(folder)
    if any(not verified.has(jar) for jar in jars):
        with exclusive("jars"):
            verified = _Verified(folder)
            _fetch([jar for jar in jars if not verified.has(jar)], folder, verified, download or _download)
    return [folder / jar.file_name for jar in jars]


def _fetch(missing: list[Jar], folder: Path, verified: _Verified, download: Downloader) -> None:
    for jar in [jar for jar in missing if (folder / jar.file_name).exists()]:
        if _sha256(folder / jar.file_name) == jar.sha256:
            verified.note(jar)
            missing.remove(jar)
        else:
            (folder / jar.file_name).unlink()
    free = shutil.disk_usage(folder).free
    if missing and free < NEEDED_BYTES:
        raise DiskFull(folder, free, NEEDED_BYTES)
    arriving = folder / "arriving"
    for may_retry in (True, False):
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir()
        try:
            if missing:
                download(missing, arriving)
            missing = [jar for jar in missing if not _accept(arriving / jar.file_name, jar, verified, may_retry)]
        finally:
            verified.save()
            shutil.rmtree(arriving, ignore_errors=True)


def _accept(arrived: Path, jar: Jar, verified: _Verified, may_retry: bool) -> bool:
    found = _sha256(arrived)
    if found == jar.sha256:
        arrived.rename(verified.folder / jar.file_name)
        verified.note(jar)
        return True
    if may_retry:
        return False
    raise CorruptJar(jar.coordinates, jar.sha256, found)


class _Verified:
    """Which files had the right sum, with the size and time they had then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "verified.json"
        try:
            self._known: dict[str, list[object]] = json.loads(self._file.read_text())
        except (OSError, ValueError):
            self._known = {}

    def has(self, jar: Jar) -> bool:
        try:
            return self._known.get(jar.file_name) == self._mark(jar)
        except OSError:
            return False

    def note(self, jar: Jar) -> None:
        self._known[jar.file_name] = self._mark(jar)

    def save(self) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps(self._known, indent=0, sort_keys=True))
        temporary.rename(self._file)

    def _mark(self, jar: Jar) -> list[object]:
        stat = (self.folder / jar.file_name).stat()
        return [jar.sha256, stat.st_size, stat.st_mtime_ns]


def _unpack(packed: Path, folder: Path) -> None:
    with fresh_folder(folder) as temporary:
        with tarfile.open(packed) as archive:
            archive.extractall(temporary, filter="data")
        files = {str(path.relative_to(temporary)): path.stat().st_size for path in temporary.rglob("*.jar")}
        (temporary / "files.json").write_text(json.dumps(files))


def _is_whole(folder: Path) -> bool:
    try:
        files: dict[str, int] = json.loads((folder / "files.json").read_text())
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(jars: Iterable[Jar], folder: Path) -> None:
    # Imported only when something is missing: jgo takes time, and its imports have opinions about the environment.
    from infra.download import download

    _abandoned.clear()
    download(jars, folder, _abandoned)


def main(words: list[str]) -> None:
    if words == ["lock"]:
        from infra.download import resolve

        text = (
            "# Written by 'python -m infra.jars lock'. Part, Maven coordinates, sha256; Kafka's in class path order.\n"
        )
        text += "".join(f"{jar.part} {jar.coordinates} {jar.sha256}\n" for jar in resolve())
        LOCK_FILE.write_text(text)
    elif words:
        sys.exit("usage: python -m infra.jars [lock]")
    else:
        kafka_class_path()
        apicurio_folder()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InfraError as error:
        sys.exit(str(error))
