"""Why an order is late, by what is known of the service that it waits for. The first that applies is the reason."""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import NamedTuple

from pavane.lanes.listing import Lane


class Waiting(NamedTuple):
    """A parked record of an order, the first of its key. `id` as `pavane dead-letters` has it."""

    id: str
    reason: str
    message: str
    attempts: int
    retry_at: datetime | None


class Known(NamedTuple):
    """What is known beside the stories. `held`: the lanes that some process of a service holds, none if Kafka does not
    say; `parked` by service and key; `home`: an order's lane."""

    lanes: Mapping[tuple[str, int], Lane]
    held: Mapping[str, Set[int]] | None
    parked: Mapping[tuple[str, str], Waiting]


class Why(NamedTuple):
    """In words, and the command that helps."""

    reason: str
    remedy: str


def why(known: Known, speaker: str, order_id: str, home: int, view: str = "timeline") -> Why:
    """Why `speaker` has not said of this order what is due."""
    lane, place = known.lanes.get((speaker, home)), f"lane {home} of {speaker}"
    if waiting := known.parked.get((speaker, order_id)):
        return _parked(waiting)
    if lane is not None and lane.halted:
        return Why(f"{place} is halted: {lane.halted}", "pavane lanes list")
    if known.held is not None and home not in (held := known.held.get(speaker, ())):
        alone = sorted(partition for service, partition in known.lanes if service == speaker and partition not in held)
        return Why(f"no process of {speaker} holds {_lanes(alone)}", f"pavane run {speaker}")
    if lane is not None and (behind := sum(lane.to_hear.values())):
        return Why(f"{place} has yet to hear {_records(behind)}", f"pavane lanes list {speaker}")
    if lane is not None and lane.to_say:
        return Why(f"{place} has decided and cannot say it: is Kafka up?", "pavane lanes list")
    heard = known.lanes.get((view, home))
    if heard is not None and (behind := heard.to_hear.get(speaker, 0)):
        return Why(f"it may be said: the {view} has yet to hear {_records(behind)} of {speaker}", f"pavane run {view}")
    return Why("nothing is known to hold it up", "pavane audit")


def _parked(waiting: Waiting) -> Why:
    command = f"pavane dead-letters show {waiting.id}"
    if waiting.retry_at is not None:
        again = f"tried {waiting.attempts} times, again at {waiting.retry_at:%H:%M:%S} UTC"
        return Why(f"parked, {again}: {waiting.message or waiting.reason}", command)
    return Why(f"parked until somebody decides, {waiting.reason}: {waiting.message}", command)


def _lanes(partitions: Sequence[int]) -> str:
    return f"lane{'s' if len(partitions) > 1 else ''} {', '.join(map(str, partitions))}"


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"
