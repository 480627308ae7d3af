"""What a service's database held at one moment, and what of it is not in the log yet."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.kit.events import State
from streams.kit.lane import Holding
from streams.kit.log import ToSay
from streams.kit.service import Service

Rows = Mapping[type[State], Mapping[str, State]]
Clocks = Mapping[int, Mapping[str, int]]
"""What each lane of a service knows, by partition."""


@dataclass(frozen=True)
class Snapshot:
    """One service's database, all of it at the same moment.

    `unsaid`: for each partition the facts in outbox rows that nobody knows to be in the log, in order. `documents`: the
    rows of one table as JSON, in any order; it can be asked while the snapshot is open. `columns`: the same as tuples
    of some columns, for tables too long to be read whole.
    """

    service: Service
    lanes: Mapping[int, Holding]
    unsaid: Sequence[tuple[int, ToSay]]
    documents: Callable[[type[State]], Iterable[str | bytes]]
    columns: Callable[[type[State], Sequence[str]], Iterable[tuple[Any, ...]]]

    @property
    def name(self) -> str:
        return self.service.name

    def known(self, partition: int, speaker: str) -> int:
        """The last sequence of a speaker that the lane had heard (or, of the service itself, said)."""
        lane = self.lanes.get(partition)
        return lane.clock.get(speaker, 0) if lane is not None else 0

    def position(self, topic: str, partition: int) -> int:
        """The next offset that the lane was to read."""
        lane = self.lanes.get(partition)
        return lane.positions.get(topic, 0) if lane is not None else 0


def heard(snapshots: Mapping[str, Snapshot], service: str, speaker: str, partition: int, sequence: int) -> bool:
    """Had the service heard that fact when its snapshot was taken? Then the snapshot shows all that follows from it."""
    return snapshots[service].known(partition, speaker) >= sequence
