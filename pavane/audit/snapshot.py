"""What a service's database held at one moment, and what of it is not in the log yet."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from streams.kit.events import State
from streams.kit.lane import Holding
from streams.kit.log import ToSay
from streams.kit.service import Service

Rows = Mapping[type[State], Mapping[str, State]]
Clocks = Mapping[int, Mapping[str, int]]
"""What each lane of a service knows, by partition."""


class Parked(NamedTuple):
    """A record that waits to be handled. `number`: with service and partition its id. `holds`: later records of its key
    wait behind it. `retry_at`: by itself."""

    partition: int
    number: int
    key: str
    holds: bool
    topic: str
    offset: int
    reason: str
    message: str
    retry_at: datetime | None


@dataclass(frozen=True)
class Snapshot:
    """One service's database, all of it at the same moment.

    `unsaid`: for each partition the facts in outbox rows that nobody knows to be in the log, in order. `parked`: what
    was heard and is not handled yet, in the order in which each lane parked it. `documents`: the rows of one table as
    JSON, in any order; it can be asked while the snapshot is open. `decisions`: what was decided by hand about the log
    that this service hears or says, each as the items of its operation (`pavane lanes skip`, `pavane log restore`).
    """

    service: Service
    lanes: Mapping[int, Holding]
    unsaid: Sequence[tuple[int, ToSay]]
    parked: Sequence[Parked]
    documents: Callable[[type[State]], Iterable[str | bytes]]
    decisions: Sequence[Sequence[str]] = ()

    @property
    def name(self) -> str:
        return self.service.name

    def known(self, partition: int, speaker: str) -> int:
        """The last sequence of a speaker that the lane had heard (or, of the service itself, said)."""
        lane = self.lanes.get(partition)
        if lane is None or (speaker not in lane.positions and speaker in self._hears):
            # A topic that the service has only begun to hear: what its clock says of it is hearsay.
            return 0
        return lane.clock.get(speaker, 0)

    def position(self, topic: str, partition: int) -> int:
        """The next offset that the lane was to read."""
        lane = self.lanes.get(partition)
        return lane.positions.get(topic, 0) if lane is not None else 0

    def decided(self, topic: str, partition: int) -> frozenset[int]:
        """The last fact that the service had said, each time that somebody told its lane where to go on in it."""
        own, about = f"{self.name}/{partition}/", f"{topic}/{partition}/"
        return frozenset(
            int(said.removeprefix(own))
            for items in self.decisions
            if any(item.startswith(about) for item in items)
            for said in items
            if said.startswith(own)
        )

    def is_restored(self, partition: int) -> bool:
        """What the log had lost of the lane's facts is said again (`pavane log restore`)."""
        return any(f"{self.name}/{partition}" in items for items in self.decisions)

    @cached_property
    def _hears(self) -> frozenset[str]:
        return frozenset(self.service.topics)

    @cached_property
    def heads(self) -> Mapping[tuple[int, str], Parked]:
        """By lane and key of which something waits to be handled: the first record, for which the others wait."""
        found: dict[tuple[int, str], Parked] = {}
        for each in self.parked:
            if each.holds:
                found.setdefault((each.partition, each.key), each)
        return found

    @cached_property
    def unhandled(self) -> frozenset[tuple[str, int, int]]:
        """Topic, partition and offset of every record that was heard, but waits to be handled.

        Not of requests that are wrong themselves: their dead letters are their answers.
        """
        return frozenset((each.topic, each.partition, each.offset) for each in self.parked if each.holds)
