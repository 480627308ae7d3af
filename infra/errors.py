"""What can go wrong with the embedded stack and the topics, and what to do about it.

InfraError                      anything below: the message says what happened and what to do next
├── PlatformWithoutWheel        no prebuilt server for this operating system and processor
├── SettingWrong                an environment variable names something that cannot be used
├── DownloadFailed              a jar could not be fetched
│   └── CorruptJar              a jar arrived twice with another sum than the lock's
├── DataFolderUnusable          the data folder cannot be used at all
│   ├── DataFolderInUse         another stack runs on it
│   ├── DataFolderNotWritable   this user may not write there
│   ├── NotADataFolder          the folder holds something else
│   ├── DataFolderForeign       written by another version, or on another kind of machine
│   └── DiskFull                too little room to start
├── PartFailed                  a server did not come up; carries the last lines of its log
│   ├── ExitedEarly             its process ended before it was ready
│   │   └── PortLost            somebody took its port first; tried again on others before it is shown
│   └── NotReady                its process runs, but does not answer within its bound
├── TopicsDiffer                topics have fewer partitions than topics.yaml wants
└── TopicsRefused               the cluster did not answer a question about topics, or refused a change
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class InfraError(Exception):
    """Anything that keeps the stack from running: show the message, not the trace."""


class PlatformWithoutWheel(InfraError):
    """A wheel brings no server for this operating system and processor."""

    def __init__(self, wheel: str, platform: str, *variables: str) -> None:
        super().__init__(
            f"The wheel '{wheel}' brings nothing that runs on {platform}. "
            f"Start that server yourself and name it with {' and '.join(variables)}; Pavane then uses yours."
        )


class SettingWrong(InfraError):
    """An environment variable names something that cannot be used."""


class DownloadFailed(InfraError):
    """A jar could not be fetched."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} could not be downloaded: {reason}. Nothing half-written was kept. "
            "Check the network (a proxy is named with HTTPS_PROXY) and start again; what is already there is not "
            "fetched twice."
        )


class CorruptJar(DownloadFailed):
    """A jar arrived twice with another sum than the lock's."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(what, f"it arrived twice with sha256 {found}, but infra/jars.lock says {expected}")


class DataFolderUnusable(InfraError):
    """The data folder cannot be used at all."""


class DataFolderInUse(DataFolderUnusable):
    """Another stack runs on this data folder."""

    def __init__(self, data: Path, holder: str) -> None:
        super().__init__(
            f"{data} is in use by another stack ({holder}). Stop that one (Ctrl-C, or kill that process), "
            "or choose another folder with DATA=."
        )


class DataFolderNotWritable(DataFolderUnusable):
    """This user may not write to the data folder."""

    def __init__(self, data: Path, reason: str) -> None:
        super().__init__(f"{data} cannot be written: {reason}. Choose another folder with DATA=.")


class NotADataFolder(DataFolderUnusable):
    """The folder holds something else."""

    def __init__(self, data: Path) -> None:
        super().__init__(
            f"{data} is not empty, and is no data folder of Pavane: nothing was put there. Choose another with DATA=."
        )


class DataFolderForeign(DataFolderUnusable):
    """The data was written by another version, or on another kind of machine."""

    def __init__(self, data: Path, written_by: str, this: str) -> None:
        super().__init__(
            f"{data} was written by {written_by}; this is {this}, which cannot read it. "
            "Choose another folder with DATA=, or delete this one if its orders are no longer needed."
        )


class DiskFull(DataFolderUnusable):
    """Too little room to start."""

    def __init__(self, data: Path, free_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"{data} has {free_bytes / 1e6:,.0f} MB free, but a start needs {needed_bytes / 1e6:,.0f} MB. "
            "Make room, or choose a folder on another disk with DATA=."
        )


class PartFailed(InfraError):
    """A server did not come up; the message ends with the last lines of its log."""

    def __init__(self, what: str, log_file: Path, tail: Sequence[str]) -> None:
        lines = "\n".join(f"    {line}" for line in tail) or "    (nothing)"
        super().__init__(f"{what}\nThe last lines of {log_file}:\n{lines}")
        self.log_file = log_file
        self.tail = tuple(tail)


class ExitedEarly(PartFailed):
    """The process of a server ended before it was ready."""

    def __init__(self, name: str, code: int, log_file: Path, tail: Sequence[str]) -> None:
        how = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
        super().__init__(f"{name} {how} before it was ready.", log_file, tail)


class PortLost(ExitedEarly):
    """Somebody took the port between our choosing it and the server's asking for it."""


class NotReady(PartFailed):
    """The process of a server runs, but does not answer within its bound."""

    def __init__(self, name: str, seconds: float, why: str, log_file: Path, tail: Sequence[str]) -> None:
        super().__init__(
            f"{name} did not answer within {seconds:.0f} seconds ({why}). A busy machine may need another try.",
            log_file,
            tail,
        )


class TopicsDiffer(InfraError):
    """Topics have fewer partitions than topics.yaml wants."""


class TopicsRefused(InfraError):
    """The cluster did not answer a question about topics, or refused a change."""

    def __init__(self, bootstrap: str, reason: str) -> None:
        super().__init__(f"Topics of Kafka at {bootstrap}: {reason}. Is it running, and is PAVANE_KAFKA right?")
