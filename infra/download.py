"""Fetching jars by Maven coordinates with jgo, with a progress bar on a terminal's stderr.

Imported only when something has to be fetched.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from infra.errors import DownloadFailed
from infra.jars import APICURIO, KAFKA, KAFKA_LOGGING, Jar

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

DOWNLOADS_AT_ONCE = 6
TIMEOUT_SECONDS = 60


def download(jars: Iterable[Jar], folder: Path, abandoned: threading.Event) -> None:
    """Fetch the jars into `folder`, sums unchecked. `DownloadFailed` names the first that did not come.

    Fails soon after `abandoned` is set.
    """
    jars = list(jars)
    with tempfile.TemporaryDirectory(dir=folder) as repository, _bar(len(jars), abandoned) as bar:
        context = _context(Path(repository), bar)

        def fetch(jar: Jar) -> None:
            try:
                _artifact(context, jar.coordinates).resolve().rename(folder / jar.file_name)
            except Exception as error:
                raise DownloadFailed(jar.coordinates, _reason(error)) from None
            bar.finished_one()

        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            for _ in pool.map(fetch, jars):
                pass


def resolve() -> list[Jar]:
    """What the roots need now, with the sums of what was fetched. Only for making the lock. `DownloadFailed`."""
    try:
        return _resolve()
    except Exception as error:
        raise DownloadFailed("What the lock is made of", _reason(error)) from None


def _resolve() -> list[Jar]:
    with tempfile.TemporaryDirectory() as repository, _bar(0, threading.Event()) as bar:
        context = _context(Path(repository), bar)
        # Kafka alone, and its logging binding as a single file: jgo takes every root for a bill of materials, and
        # log4j's parent then pulls kafka-clients back to 3.9.
        roots, rest = context.resolver.resolve([context.create_dependency(KAFKA)])
        artifacts = {(each.groupId, each.artifactId): each.artifact for each in (*roots, *rest)}
        log4j = artifacts["org.apache.logging.log4j", "log4j-core"].version
        kafka = [*artifacts.values(), _artifact(context, f"{KAFKA_LOGGING}:{log4j}")]
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            jars = list(pool.map(lambda each: _locked("kafka", each), kafka))
        return [*jars, _locked("apicurio", _artifact(context, APICURIO))]


def _locked(part: str, artifact: Artifact) -> Jar:
    coordinates = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
    if artifact.classifier:
        coordinates += f":{artifact.classifier}:{artifact.packaging}"
    return Jar(part, coordinates, hashlib.sha256(artifact.resolve().read_bytes()).hexdigest())


def _artifact(context: MavenContext, coordinates: str) -> Artifact:
    group, artifact, version, *rest = coordinates.split(":")
    return context.project(group, artifact).at_version(version).artifact(*rest)


def _context(repository: Path, bar: _Bar) -> MavenContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from jgo.maven import MavenContext, PythonResolver
    logging.getLogger("jgo").setLevel(logging.CRITICAL)
    return MavenContext(
        resolver=PythonResolver(progress_callback=bar.file), repo_cache=repository, timeout=TIMEOUT_SECONDS
    )


def _reason(error: Exception) -> str:
    """One line without addresses and without a library's inner words."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full"
    if isinstance(error, InterruptedError):
        return "it was called off"
    if kind == "RuntimeError":
        return "the repository does not have it"
    if "Timeout" in kind:
        return f"no answer within {TIMEOUT_SECONDS} seconds"
    if "Connection" in kind or "Proxy" in kind or "SSL" in kind:
        return "the Maven repository cannot be reached"
    return f"{kind}"


class _Bar:
    """Bytes of all files together; the total grows as their sizes become known."""

    def __init__(self, progress: Progress, task: TaskID, files: int, abandoned: threading.Event) -> None:
        self._abandoned = abandoned
        self._progress, self._task, self._files = progress, task, files
        self._lock = threading.Lock()
        self._total = self._done = self._finished = 0

    @contextmanager
    def file(self, _name: str, size: int) -> Iterator[Callable[[int], None]]:
        self._add(total=size)
        yield lambda count: self._add(done=count)

    def finished_one(self) -> None:
        self._finished += 1
        self._add()

    def _add(self, total: int = 0, done: int = 0) -> None:
        if self._abandoned.is_set():
            raise InterruptedError
        with self._lock:
            self._total += total
            self._done += done
            files = f"{self._finished} of {self._files} files" if self._files else ""
            self._progress.update(self._task, total=self._total, completed=self._done, files=files)


@contextmanager
def _bar(files: int, abandoned: threading.Event) -> Iterator[_Bar]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TextColumn("{task.fields[files]}"), console=Console(file=sys.stderr)) as progress:
        task = progress.add_task("Kafka and the registry, once for this machine", total=None, files="")
        yield _Bar(progress, task, files, abandoned)
