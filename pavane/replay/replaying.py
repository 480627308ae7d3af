"""All lanes of one service side by side, in the order of time in which they said their facts."""

import heapq
import time
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from pavane.replay.deciding import Decider
from pavane.replay.errors import CannotReplay
from pavane.replay.hearing import Moment, Past, dead_letters
from pavane.replay.history import History
from pavane.replay.judging import Judge
from pavane.replay.report import Report
from pavane.replay.states import States
from streams.kit.kafka import partition_of
from streams.kit.language import Language
from streams.kit.service import Service

TOLD_EVERY = 500
Told = Callable[[int], None]


class Bound(NamedTuple):
    """One end of what is compared: a time in milliseconds since 1970, or an offset of the service's own topic."""

    timestamp: int | None = None
    offset: int | None = None

    def is_before(self, moment: Moment) -> bool:
        """Whether the moment is at this bound or after it. What was heard after the last fact is after every bound."""
        if self.offset is not None:
            return moment.offset < 0 or moment.offset >= self.offset
        return moment.timestamp >= (self.timestamp or 0)


class Range(NamedTuple):
    """What is compared: from (with it) and to (without it). What lies outside only makes the rows."""

    start: Bound | None = None
    end: Bound | None = None

    def has(self, moment: Moment) -> bool:
        return (self.start is None or self.start.is_before(moment)) and (
            self.end is None or not self.end.is_before(moment)
        )


def replay(
    service: Service, history: History, wanted: Range = Range(), told: Told = lambda facts: None
) -> Report:
    """Decide again about all that the service heard; `told` is told now and then how many facts have gone by.

    It takes as long as its service took, or less, and some dozen megabytes whatever the size of the log; what differs
    and what waits is in memory as well, bounded. Not from within a running event loop. Raises `CannotReplay`.
    """
    if service.is_projection:
        raise CannotReplay(f"{service.name} is a view: it decides nothing, so there is nothing to compare")
    if unrecalled := [effect.__name__ for effect in service.answering if effect not in service.recalling]:
        raise CannotReplay(
            f"{service.name} does not declare with 'recalls' which facts tell the answer to {', '.join(unrecalled)}"
        )
    begun = time.monotonic()
    report = Report(service.name)
    pasts = [Past(service, partition, history) for partition in range(history.partition_count)]
    with closing(States(service)) as states:
        decider = Decider(
            service,
            Language.load(),
            history.schema_of,
            states,
            lambda key: partition_of(key, history.partition_count),
        )
        lanes = {past.lane.partition: past.lane for past in pasts}
        judge = Judge(decider, states, report, lanes, dead_letters(service, history), history.waiting)
        facts, next_told = 0, TOLD_EVERY
        for moment in heapq.merge(*(past.moments() for past in pasts), key=lambda moment: moment.timestamp):
            judge.judge(moment, compares=wanted.has(moment))
            facts += len(moment.facts)
            if facts >= next_told:
                told(facts)
                next_told = facts + TOLD_EVERY
        judge.end()
        told(facts)
    report.seconds = time.monotonic() - begun
    return report
