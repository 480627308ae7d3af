"""Why an order is late, by what is known of the service that it waits for. The first that applies is the reason."""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import NamedTuple

from pavane.lanes.holding import Held
from pavane.lanes.listing import Lane
from streams.kit.errors import BreakerOpen
from streams.kit.parking import AT_ONCE

LOG_AWAY = "Kafka does not answer: nothing is heard or said"
LOG_BACK = "start its brokers, and nothing else; 'pavane topics plan' answers when they are back"


class Waiting(NamedTuple):
    """A parked record of an order, the first of its key. `id` as `pavane dead-letters` has it."""

    id: str
    reason: str
    message: str
    attempts: int
    retry_at: datetime | None


class Known(NamedTuple):
    """What is known beside the stories. `held`: who holds which lanes; `parked` by service and key; `away`: services
    whose database cannot be asked, and why; `lost`: those of them whose database is gone; `unsaid`: services and
    the orders of which they have decided something that is not in the log yet; `stale`: lanes in which the view has had
    facts to hear for longer than a moment; `log_away`: that Kafka does not answer, and how, if it does not."""

    lanes: Mapping[tuple[str, int], Lane]
    held: Held | None
    parked: Mapping[tuple[str, str], Waiting]
    away: Mapping[str, str] = {}
    unsaid: Set[tuple[str, str]] = frozenset()
    stale: Set[int] = frozenset()
    log_away: str = ""
    lost: Set[str] = frozenset()


class Why(NamedTuple):
    """In words that are the same for all orders that it holds up, and the command that helps.

    `detail`: what is of this order or of its lane alone. `remedy` may name this order's record.
    """

    reason: str
    remedy: str
    detail: str = ""


def why(
    known: Known, speaker: str, order_id: str, home: int, asks: Sequence[str] = (), view: str = "timeline"
) -> Why:
    """Why `speaker` has not said of this order what is due. `asks`: the ids of the facts of which any is its cue."""
    if waiting := known.parked.get((speaker, order_id)):
        return _parked(speaker, waiting)
    if stands := _stands(known, speaker, home):
        return stands
    lane = known.lanes.get((speaker, home))
    if lane is not None and asks and not any(_heard(lane, fact) for fact in asks):
        return behind(known, speaker, home)
    if (speaker, order_id) in known.unsaid:
        command = f"pavane lanes list {speaker}"
        return Why("its lane has decided and cannot say it: is Kafka up?", command, f"lane {home}")
    if home in known.stale:
        behind_too = behind(known, view, home)
        detail = f"{behind_too.reason}: {behind_too.detail}".removesuffix(": ")
        return Why(f"it may be said: the {view} has yet to hear it", behind_too.remedy, detail)
    return Why("nothing is known to hold it up", "pavane audit")


def _heard(lane: Lane, fact: str) -> bool:
    """Whether the lane knows the fact with this id: speaker/partition/sequence."""
    speaker, _, sequence = fact.split("/")
    return lane.clock.get(speaker, 0) >= int(sequence)


def behind(known: Known, service: str, home: int) -> Why:
    """Why this lane of `service` has not heard all that there is: it stands still, or is behind."""
    if stands := _stands(known, service, home):
        return stands
    lane = known.lanes.get((service, home))
    records = sum((lane.to_hear or {}).values()) if lane is not None else 0
    detail = f"lane {home} has yet to hear {_records(records)}" if records else ""
    return Why("its lane is behind", f"pavane lanes list {service}", detail)


def _stands(known: Known, service: str, home: int) -> Why | None:
    """Why the lane does nothing at all, if that is so, or why nobody can tell."""
    if problem := known.away.get(service):
        if service in known.lost:
            return Why("its database is lost", rebuilt(service), problem)
        return Why("its database cannot be asked", database_back(service), problem)
    lane = known.lanes.get((service, home))
    if lane is not None and lane.halted:
        return Why("its lane is halted", f"pavane lanes list {service}", f"lane {home}: {lane.halted}")
    if known.log_away:
        return Why(LOG_AWAY, LOG_BACK, known.log_away)
    held = known.held.get(service) if known.held is not None else None
    if held is not None and home not in held:
        alone = sorted(lane for of, lane in known.lanes if of == service and lane not in held)
        return Why(f"no process of {service} holds {_lanes(alone)}", f"pavane run {service}")
    return None


def rebuilt(service: str) -> str:
    """The command that makes a database that is lost again."""
    return f"pavane rebuild {service} --swap --reason ..."


def database_back(service: str) -> str:
    """What helps with a database that does not answer."""
    return (
        f"bring PostgreSQL back, and nothing else; 'pavane lanes list {service}' answers when it is; "
        f"only if it is lost: '{rebuilt(service)}'"
    )


def _parked(speaker: str, waiting: Waiting) -> Why:
    if waiting.retry_at is None:
        command = f"pavane dead-letters show {waiting.id}"
        return Why(f"parked until somebody decides: {waiting.reason}", command, waiting.message)
    when = "at once" if waiting.retry_at == AT_ONCE else f"at {waiting.retry_at:%H:%M:%S} UTC"
    again = f"tried {waiting.attempts} times, again {when}: {waiting.message}"
    if dependency := BreakerOpen.dependency_in(waiting.message):
        # They are tried again by themselves; once it answers, this need not be waited for.
        command = f"pavane dead-letters redrive --service {speaker} --because {waiting.reason}"
        return Why(f"the breaker of {dependency} is open: it did not answer, and is left alone", command, again)
    return Why(f"parked, and tried again by itself: {waiting.reason}", f"pavane dead-letters show {waiting.id}", again)


def _lanes(partitions: Sequence[int]) -> str:
    if not partitions:
        return "its lanes"
    return f"lane{'s' if len(partitions) > 1 else ''} {', '.join(map(str, partitions))}"


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"
