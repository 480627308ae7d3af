"""An audit that goes on where an earlier one had come, by the checkpoint that this one kept."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pavane.audit import checkpoint
from pavane.audit.checkpoint import Mark, Marking
from pavane.audit.examination import Evidence, examine
from pavane.audit.ledger import Where
from pavane.audit.reading import Reading
from pavane.audit.report import Verdict
from streams.kit.log import Record


class Log(Protocol):
    """The log up to the `ends` that it had at one moment."""

    @property
    def ends(self) -> Mapping[Where, int]: ...

    def records(self, starts: Mapping[Where, int], ends: Mapping[Where, int]) -> Iterable[Record]:
        """Those of each partition from one offset on, below another; from its start where none is given."""
        ...

    def check(self, marks: Collection[Mark], kept: Path) -> None:
        """Raises `EvidenceMissing` where this is not the log that was read up to these marks; `kept` has them."""
        ...


def go_on(evidence: Evidence, log: Log, kept: Path, code: str) -> tuple[tuple[Verdict, ...], datetime | None]:
    """All verdicts, and when the earlier audit began; None: there is no checkpoint of this `code`, or a database knows
    less than it does, and all was read. If nothing is broken, the next checkpoint is kept; not where a database knows
    less than was read.

    `evidence`: all but the records. Raises `EvidenceMissing`.
    """
    settled = checkpoint.settled_ends(evidence.snapshots, log.ends)
    earlier = checkpoint.read(kept, code)
    if earlier is not None:
        log.check(earlier.marks, kept)
        if checkpoint.is_behind(evidence.snapshots, settled, earlier):
            earlier = None
    marks = earlier.marks if earlier is not None else []
    marking, made = Marking(marks), list[bytes]()

    def keep(reading: Reading) -> None:
        if checkpoint.is_complete(reading, evidence.snapshots):
            made.append(checkpoint.keep(reading, marking.marks(settled), evidence.now, code))

    verdicts = examine(
        evidence._replace(
            earlier=earlier,
            settled=marking.noting(log.records({mark.where: mark.next for mark in marks}, settled)),
            keep=keep,
            records=log.records(settled, log.ends),
            ends=log.ends,
        )
    )
    if made and all(verdict.clean for verdict in verdicts):
        checkpoint.write(kept, made[0])
    return verdicts, earlier.at if earlier is not None else None
