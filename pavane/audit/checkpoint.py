"""What an audit has read of the log, kept for the next one, which then reads only what came since.

Facts in the log do not change, so what they make of orders and rows need not be found again. All else is looked at anew
each time: every row of every database is compared, and the world's records are. A checkpoint is kept only by an audit
that found nothing broken, and holds what every database that is folded from the log had heard by then.

Nothing is believed on trust but that the log is the same: where the log still has the last record that was read of a
partition, it must be equal byte by byte.
"""

import hashlib
import os
import secrets
import zlib
from array import array
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from pavane.audit.dead_letters import DeadLetter
from pavane.audit.errors import EvidenceMissing
from pavane.audit.lanelog import Index, LaneLog, RequestLog
from pavane.audit.ledger import Where, digest_of
from pavane.audit.orders import OrderFacts
from pavane.audit.reading import Reading
from pavane.audit.snapshot import Snapshot
from streams.kit.events import State
from streams.kit.lane import DEAD_LETTERS, REQUESTS
from streams.kit.language import Language
from streams.kit.log import Record

_OURS = b"pavane-audit-"
_FORMAT = _OURS + b"2\n"


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """How far one partition was read: `next`, the offset to read on from; the last record below it, and its digest."""

    topic: str
    partition: int
    next: int
    last: int
    digest: int

    @property
    def where(self) -> Where:
        return self.topic, self.partition


class _Lane(msgspec.Struct, array_like=True):
    topic: str
    partition: int
    unkept: int
    columns: list[bytes]
    clocks: dict[str, bytes]


class _Requests(msgspec.Struct, array_like=True):
    topic: str
    partition: int
    columns: list[bytes]


class Checkpoint(msgspec.Struct, array_like=True):
    """One as it is in the file. `code`: what made it; other code may fold to other rows, and begins anew."""

    at: datetime
    code: str
    marks: list[Mark]
    lanes: list[_Lane]
    requests: list[_Requests]
    dead_letters: list[DeadLetter]
    keys: list[bytes]
    names: list[bytes]
    topics: list[bytes]
    counts: tuple[int, int]
    notes: tuple[int, list[str]]
    orders: dict[str, OrderFacts]
    rows: dict[str, dict[str, msgspec.Raw]]


_LANE = ("sequences", "offsets", "digests", "entries", "keys", "names", "cause_topics", "cause_numbers")
_REQUESTS = ("offsets", "timestamps", "keys", "names")
_decoder = msgspec.msgpack.Decoder(Checkpoint)


# -- how far ---------------------------------------------------------------------------------------------------------


def settled_ends(snapshots: Mapping[str, Snapshot], ends: Mapping[Where, int]) -> dict[Where, int]:
    """Up to where every snapshot includes the facts, by partition. The views must have been opened before the speakers:
    then each speaker's snapshot knows what a view's has heard.

    Of requests and dead letters nothing is folded: they need be read once only.
    """
    views = [snapshot for snapshot in snapshots.values() if snapshot.service.is_projection]
    found: dict[Where, int] = {}
    for (topic, partition), end in ends.items():
        if topic.endswith((REQUESTS, DEAD_LETTERS)):
            found[topic, partition] = end
            continue
        hearing = [view for view in views if topic in view.service.topics]
        heard = [view.position(topic, partition) for view in hearing]
        waiting = [at for view in hearing for (of, p, at) in view.unhandled if (of, p) == (topic, partition)]
        found[topic, partition] = min(end, *heard, *waiting) if heard else 0
    return found


def is_complete(reading: Reading, snapshots: Mapping[str, Snapshot]) -> bool:
    """Every speaker's snapshot knows all that was read of it, so that the rows are the fold of that. They would not be
    if a database answered from a copy that lags behind."""
    return all(
        snapshots[topic].known(partition, topic) >= lane.last
        for (topic, partition), lane in reading.ledger.lanes.items()
        if topic in snapshots
    )


def is_behind(snapshots: Mapping[str, Snapshot], settled: Mapping[Where, int], checkpoint: Checkpoint) -> bool:
    """A database knows less than when the checkpoint was kept: it was restored or made anew, so its rows are the fold
    of fewer facts than are remembered."""
    last = {(lane.topic, lane.partition): lane.columns[0] for lane in checkpoint.lanes}
    for where, column in last.items():
        speaker = snapshots.get(where[0])
        if speaker is not None and speaker.known(where[1], where[0]) < _last(column):
            return True
    return any(settled.get(mark.where, 0) < mark.next for mark in checkpoint.marks)


def _last(column: bytes) -> int:
    return array("q", column)[-1] if column else 0


class Marking:
    """Notes the last record of each partition as records go by; `marks` of an earlier audit hold where none came."""

    def __init__(self, marks: Iterable[Mark] = ()) -> None:
        self._before = {mark.where: mark for mark in marks}
        self._last: dict[Where, Record] = {}

    def noting(self, records: Iterable[Record]) -> Iterable[Record]:
        """The records, unchanged."""
        for record in records:
            self._last[record.topic, record.partition] = record
            yield record

    def marks(self, ends: Mapping[Where, int]) -> list[Mark]:
        """One a partition that was read up to these ends and holds anything."""
        found = []
        for where, end in ends.items():
            if (record := self._last.get(where)) is not None:
                found.append(Mark(*where, end, record.offset, digest_of(record)))
            elif (before := self._before.get(where)) is not None:
                found.append(msgspec.structs.replace(before, next=max(before.next, end)))
        return found


# -- keeping and resuming --------------------------------------------------------------------------------------------


def keep(reading: Reading, marks: list[Mark], at: datetime, code: str) -> bytes:
    """The checkpoint's bytes: what was read so far."""
    ledger = reading.ledger
    lanes = [
        _Lane(*where, lane.unkept, _bytes(lane, _LANE), {who: column.tobytes() for who, column in lane.clocks.items()})
        for where, lane in ledger.lanes.items()
    ]
    requests = [_Requests(*where, _bytes(each, _REQUESTS)) for where, each in ledger.requests.items()]
    rows = {
        name: {
            state.table: msgspec.Raw(msgspec.msgpack.encode(list(found.values())))
            for state, found in rebuild.rows.items()
        }
        for name, rebuild in reading.rebuilds.items()
    }
    checkpoint = Checkpoint(
        at,
        code,
        marks,
        lanes,
        requests,
        ledger.dead_letters,
        ledger.keys.texts,
        ledger.names.texts,
        ledger.topics.texts,
        ledger.counts,
        (ledger.notes[0], list(ledger.notes[1])),
        reading.orders.by_id,
        rows,
    )
    return _FORMAT + zlib.compress(msgspec.msgpack.encode(checkpoint), 1)


def resume(reading: Reading, checkpoint: Checkpoint) -> None:
    """Make a fresh reading what it was when the checkpoint was kept."""
    ledger = reading.ledger
    for lane in checkpoint.lanes:
        ledger.lanes[lane.topic, lane.partition] = _lane(lane)
    for each in checkpoint.requests:
        ledger.requests[each.topic, each.partition] = _filled(RequestLog(), _REQUESTS, each.columns)
    ledger.dead_letters = checkpoint.dead_letters
    ledger.keys, ledger.names = Index(checkpoint.keys), Index(checkpoint.names)
    ledger.topics = Index(checkpoint.topics)
    ledger.counts, ledger.notes = checkpoint.counts, checkpoint.notes
    reading.orders.by_id = checkpoint.orders
    for name, rebuild in reading.rebuilds.items():
        for state, rows in rebuild.rows.items():
            kept: list[State] = msgspec.msgpack.decode(checkpoint.rows[name][state.table], type=list[state])  # type: ignore[valid-type]
            rows.update((row.row_key, row) for row in kept)


def _lane(kept: _Lane) -> LaneLog:
    lane: LaneLog = _filled(LaneLog(kept.topic, kept.partition), _LANE, kept.columns)
    lane.unkept = kept.unkept
    lane.clocks = {who: array("q", column) for who, column in kept.clocks.items()}
    lane.latest = {who: column[-1] for who, column in lane.clocks.items() if column}
    return lane


def _bytes(of: object, columns: Iterable[str]) -> list[bytes]:
    return [getattr(of, name).tobytes() for name in columns]


def _filled(made: Any, names: Iterable[str], columns: Iterable[bytes]) -> Any:
    for name, column in zip(names, columns, strict=True):
        getattr(made, name).frombytes(column)
    return made


# -- the file --------------------------------------------------------------------------------------------------------


def code_of(language: Language) -> str:
    """A digest of the code and the schemas that decide what an audit makes of the log."""
    digest = hashlib.sha256()
    for package in ("streams", "pavane.audit"):
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for schema in language:
        digest.update(schema.text.encode())
    return digest.hexdigest()[:16]


def read(path: Path, code: str) -> Checkpoint | None:
    """The checkpoint there; None when there is none, or other code kept it. Raises `EvidenceMissing`."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EvidenceMissing(f"{path} cannot be read: {error}") from error
    if found.startswith(_OURS) and not found.startswith(_FORMAT):
        return None
    try:
        if not found.startswith(_FORMAT):
            raise ValueError("it begins otherwise")
        checkpoint = _decoder.decode(zlib.decompress(found[len(_FORMAT) :]))
    except (ValueError, zlib.error, msgspec.MsgspecError) as error:
        raise EvidenceMissing(f"{path} is no checkpoint of an audit ({error}): name another file") from error
    return checkpoint if checkpoint.code == code else None


def write(path: Path, kept: bytes) -> None:
    """Put the checkpoint there, whole or not at all; of several audits at once each keeps its own. Raises
    `EvidenceMissing`."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with beside.open("xb") as file:
            file.write(kept)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise EvidenceMissing(f"The checkpoint {path} cannot be written: {error}") from error
