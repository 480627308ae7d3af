"""The evidence of one audit, and all verdicts over it. Nothing here reads a database, a log or a clock."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar, cast

from pavane.audit import causes, delivery, orders, rebuild, settlement, stock, stories
from pavane.audit.decoding import Decoder
from pavane.audit.ledger import Ledger, PartitionOf, Where
from pavane.audit.orders import Orders
from pavane.audit.rebuild import Rebuild
from pavane.audit.report import Tally, Verdict
from pavane.audit.settlement import Remains
from pavane.audit.snapshot import Clocks, Rows, Snapshot, heard
from pavane.audit.world import World
from streams.billing.model import Invoice
from streams.inventory.model import Movement, Reservation, Stock
from streams.kit.events import State
from streams.kit.log import Record
from streams.shipping.model import Shipment

S = TypeVar("S", bound=State)


class Evidence(NamedTuple):
    """What was looked at, in this order: `snapshots` by service, `world`, `records` up to `ends`.

    `records`: those of each topic together, in order, `orders` first. `later`: asks what each service's lanes know
    once the records were read. `now`: the time (UTC) at which it began.
    """

    snapshots: Mapping[str, Snapshot]
    world: World
    records: Iterable[Record]
    ends: Mapping[Where, int]
    later: "Later"
    decoder: Decoder
    partition_of: PartitionOf
    now: datetime


class Later:
    """Asks for the clocks of all services, when it is called."""

    def __call__(self) -> Mapping[str, Clocks]:
        raise NotImplementedError


def examine(evidence: Evidence) -> tuple[Verdict, ...]:
    """Read the records once, then judge every invariant."""
    snapshots = evidence.snapshots
    speakers = [name for name, snapshot in snapshots.items() if not snapshot.service.is_projection]
    ledger = Ledger(speakers, evidence.decoder, evidence.partition_of)
    collected = Orders()
    rebuilds = {name: Rebuild(snapshot) for name, snapshot in snapshots.items()}
    for record in evidence.records:
        said = ledger.note(record)
        if said is not None:
            collected.hear(said)
            for each in rebuilds.values():
                each.hear(said)
