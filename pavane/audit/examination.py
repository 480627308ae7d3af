"""The evidence of one audit, and all verdicts over it. Nothing here reads a database, a log or a clock."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

from pavane.audit import causes, checkpoint, dead_letters, delivery, orders, rebuild, settlement, stock, stories
from pavane.audit.checkpoint import Checkpoint
from pavane.audit.decoding import Decoder
from pavane.audit.ledger import PartitionOf, Where
from pavane.audit.reading import Reading
from pavane.audit.report import Tally, Verdict
from pavane.audit.settlement import Remains
from pavane.audit.snapshot import Clocks, Rows, Snapshot
from pavane.audit.waiting import Waiting, waiting_for
from pavane.audit.world import World
from streams.billing.model import Invoice
from streams.inventory.model import Movement, Reservation, Stock
from streams.kit.events import State
from streams.kit.log import Record
from streams.shipping.model import Shipment

S = TypeVar("S", bound=State)


class Evidence(NamedTuple):
    """What was looked at, in this order: `snapshots` by service, `world`, `records` up to `ends`, clocks again.

    `records`: those of each partition in order; the log has them from `starts` on. `later`: asks what each service's
    lanes know, after the last record was read. `now`: the time (UTC) at which the audit began.

    `earlier` is what an earlier audit has read; then comes `settled`, what every snapshot includes and it has not read;
    then `keep` is called, and then come the `records`.
    """

    snapshots: Mapping[str, Snapshot]
    world: World
    records: Iterable[Record]
    ends: Mapping[Where, int]
    later: Callable[[], Mapping[str, Clocks]]
    decoder: Decoder
    partition_of: PartitionOf
    now: datetime
    starts: Mapping[Where, int] = MappingProxyType({})
    earlier: Checkpoint | None = None
    settled: Iterable[Record] = ()
    keep: Callable[[Reading], None] | None = None


def examine(evidence: Evidence) -> tuple[Verdict, ...]:
    """Read the records once, then judge every invariant."""
    snapshots = evidence.snapshots
    reading = _read(evidence)
    ledger, found, rebuilds = reading.ledger, reading.orders, reading.rebuilds
    later = evidence.later()
    rows_tally = Tally("rows-rebuilt", rebuild.PROMISE)
    views_tally = Tally("views-rebuilt", rebuild.PROJECTION_PROMISE)
    live = {
        name: rebuild.compare(snapshot, rebuilds[name], views_tally if snapshot.service.is_projection else rows_tally)
        for name, snapshot in snapshots.items()
    }
    remains = Remains(
        _rows(live, "inventory", Reservation),
        _rows(live, "billing", Invoice),
        _rows(live, "shipping", Shipment),
        evidence.world,
    )

    def waits(service: str, partition: int, sequence: int, order_id: str) -> Waiting | None:
        return waiting_for(snapshots[service], orders.TOPIC, partition, sequence, order_id)

    return (
        orders.ends_once(found.by_id, snapshots[orders.TOPIC], evidence.now),
        orders.requests_answered(ledger, snapshots[orders.TOPIC], found.by_id, evidence.now),
        settlement.confirmed(found.by_id, remains, waits, evidence.now),
        settlement.undone(found.by_id, remains, waits, evidence.now),
        stock.balances(
            _rows(live, "inventory", Stock),
            cast("Mapping[str, Stock]", rebuilds["inventory"].rows[Stock]),
            remains.reservations.values(),
            _rows(live, "inventory", Movement).values(),
        ),
        ledger.verdict(),
        delivery.nothing_lost(ledger, snapshots, later, evidence.ends),
        causes.after_causes(ledger, snapshots),
        rows_tally.verdict(),
        views_tally.verdict(),
        stories.entries_told(ledger, snapshots["timeline"]),
        dead_letters.parked(snapshots),
        dead_letters.listed(ledger.dead_letters),
    )


def _read(evidence: Evidence) -> Reading:
    """Hear every fact once: from the log, and from the outboxes what is not in the log yet."""
    reading = Reading(evidence.snapshots, evidence.decoder, evidence.partition_of, evidence.starts)
    if evidence.earlier is not None:
        checkpoint.resume(reading, evidence.earlier)
    reading.hear(evidence.settled)
    if evidence.keep is not None:
        evidence.keep(reading)
    reading.hear(evidence.records)
    reading.hear_unsaid()
    return reading


def _rows(live: Mapping[str, Rows], service: str, state: type[S]) -> Mapping[str, S]:
    return cast("Mapping[str, S]", live[service][state])
