"""What the log says, record by record: the ledger, the orders, and the rows that all facts make."""

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

from pavane.audit.decoding import Decoder
from pavane.audit.ledger import Ledger, PartitionOf, Said, Where
from pavane.audit.orders import Orders
from pavane.audit.rebuild import Rebuild
from pavane.audit.snapshot import Snapshot
from pavane.audit.stories import digest_of
from streams.kit.events import State
from streams.kit.log import Record
from streams.timeline.model import Entry


class Reading:
    """Filled by `hear`, then by `hear_unsaid`. `rebuilds`: by service, as far as each snapshot's clock goes."""

    def __init__(
        self,
        snapshots: Mapping[str, Snapshot],
        decoder: Decoder,
        partition_of: PartitionOf,
        starts: Mapping[Where, int] = MappingProxyType({}),
    ) -> None:
        self.ledger = Ledger(decoder, partition_of, self._passed_over, starts, self._decided)
        self.orders = Orders()
        self.rebuilds = {name: Rebuild(snapshot, self._made) for name, snapshot in snapshots.items()}
        self._snapshots = snapshots
        self._listening: dict[str, list[Rebuild]] = {}
        for each in self.rebuilds.values():
            for topic in each.topics:
                self._listening.setdefault(topic, []).append(each)

    def _passed_over(self, topic: str, partition: int, offset: int) -> bool:
        """A lane halts before what is nobody's fact: one that is behind it was told to go on there, or made anew."""
        hearing = [each for each in self._snapshots.values() if topic in each.service.topics]
        return bool(hearing) and all(each.position(topic, partition) > offset for each in hearing)

    def _decided(self, service: str, topic: str, partition: int) -> Collection[int]:
        return self._snapshots[service].decided(topic, partition) if service in self._snapshots else ()

    def _made(self, said: Said, row: State) -> None:
        """What is written once and never changed is kept as a digest, with the fact that makes it."""
        lane = self.ledger.lane(said.topic, said.partition)
        if isinstance(row, Entry) and (at := lane.index(said.sequence)) is not None:
            lane.entries[at] = digest_of(row)

    def hear(self, records: Iterable[Record]) -> None:
        """Hear every fact once; those of each partition in order."""
        for record in records:
            for said in self.ledger.note(record):
                self._tell(said)

    def hear_unsaid(self) -> None:
        """Hear what is in the outboxes and not in the log yet. The log must have been heard to its end."""
        unsaid = [each for snapshot in self._snapshots.values() for each in snapshot.unsaid]
        for said in self.ledger.left(unsaid):
            self._tell(said)
        for partition, fact in unsaid:
            if (waiting := self.ledger.unsaid(partition, fact)) is not None:
                self._tell(waiting)

    def _tell(self, said: Said) -> None:
        self.orders.hear(said)
        for each in self._listening.get(said.topic, ()):
            each.hear(said)
