"""The answer: whether a version of a service may be deployed beside what is live now, with the reasons against it.

Pure: all that was asked of databases, log and registry comes in as `Live`. A rollback is a deploy like any other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from contracts.compatibility import why_unreadable
from contracts.finding import Finding
from pavane.instance import GATEWAY
from streams.kit.announcing import ANNOUNCE_SECONDS, KIT_MIGRATIONS, Announcement, AvroSchema
from streams.kit.lane import REQUESTS

EventName = tuple[str, str]
"""Topic and name."""


class Running(NamedTuple):
    """A version that was announced. `is_live`: it said so a moment ago; otherwise it is the last that ran."""

    said: Announcement
    first_at: datetime
    last_at: datetime
    is_live: bool


class Met(NamedTuple):
    """Records of one schema that the version would meet. `where`: unread, parked, or among the facts of its own.

    `schema`: None when the registry knows none with that id. `oldest`: topic/partition/offset of the first.
    """

    where: str
    topic: str
    schema_id: int
    schema: AvroSchema | None
    records: int
    oldest: str
    oldest_at: datetime

    @property
    def event(self) -> str:
        return str(self.schema["name"]) if self.schema else f"schema {self.schema_id}"


class Live(NamedTuple):
    """What is live now. `registry`: every registered version of each event that the version knows. `lacking`: events
    that it says and that the registry does not have so. `silent`: services that run a version which announces nothing.
    `columns`: of each table of its database, and whether a row needs a value for it. `in_flight`: orders
    that have not ended, or of which somebody has yet to send off or undo what they did. `migrated`: the last migration
    of each branch in its database.
    `remade`: services of which no version is known since their database was made again, and when that was.
    `left_out`: records that it would meet, and that were too many to look at.
    """

    running: Mapping[str, Sequence[Running]]
    silent: frozenset[str]
    registry: Mapping[EventName, Sequence[AvroSchema]]
    lacking: frozenset[EventName]
    met: Sequence[Met]
    columns: Mapping[str, Mapping[str, bool]]
    in_flight: int
    remade: Mapping[str, datetime] = {}
    left_out: int = 0
    migrated: frozenset[str] = frozenset()

    def others(self, service: str) -> Iterator[Running]:
        """The versions of all other services."""
        return (each for name, running in self.running.items() if name != service for each in running)

    def waiting(self, event: EventName, where: str) -> int:
        """How many records of this event are unread, or parked."""
        return sum(met.records for met in self.met if met.where == where and (met.topic, met.event) == event)


class Answer(NamedTuple):
    """`reasons` against it, and what is `unknown`: neither, and it may be deployed. `notes`: what to know or to do
    besides."""

    candidate: Announcement
    reasons: tuple[Finding, ...]
    unknown: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def may(self) -> bool | None:
        """None: nothing speaks against it, but not everything could be judged."""
        if self.reasons:
            return False
        return None if self.unknown else True


def judge(candidate: Announcement, live: Live) -> Answer:
    """Whether it would understand and be understood."""
    reasons = (
        *_unregistered(candidate, live),
        *_unknown_to_us(candidate, live),
        *_not_understanding(candidate, live),
        *_not_understood(candidate, live),
        *_asked_in_vain(candidate, live),
        *_no_longer_said(candidate, live),
        *_no_longer_heard(candidate, live),
        *_not_remembered(candidate, live),
        *_not_migrated(candidate, live),
    )
    return Answer(candidate, reasons, tuple(_unknown(candidate, live)), tuple(_notes(candidate, live)))


# -- reasons against it ------------------------------------------------------------------------------------------------


def _unregistered(candidate: Announcement, live: Live) -> Iterator[Finding]:
    for topic, event in sorted(live.lacking):
        what = f"the registry does not have {event} of {topic} as this version says it: it would not start."
        yield Finding(candidate.service, what, "Run 'pavane schemas push' from its code first.")


def _unknown_to_us(candidate: Announcement, live: Live) -> Iterator[Finding]:
    """It cannot be judged against who does not say what it hears."""
    for who, at in sorted(live.remade.items()):
        what = f"what ran of {who} is not known, since its database was made again at {at:%Y-%m-%d %H:%M:%S} UTC."
        remedy = f"A process that runs says its version every {ANNOUNCE_SECONDS:.0f} seconds: ask again. If none does, "
        yield Finding(candidate.service, what, f"{remedy}start the version that ran before.")
    if silent := live.silent - live.remade.keys():
        who = ", ".join(sorted(silent))
        what = f"cannot be judged against the last version of {who}, which does not announce what it says and hears."
        remedy = "This once, go by 'pavane schemas check'; versions of now announce themselves when they start."
        yield Finding(candidate.service, what, remedy)


def _not_understanding(candidate: Announcement, live: Live) -> Iterator[Finding]:
    """What it cannot read: of records that wait for it, and of everything that the registry allows to be said."""
    reads = {**_events(candidate.says), **_events(candidate.hears)}
    told: set[tuple[EventName, str]] = set()
    for met in live.met:
        event = (met.topic, met.event)
        if met.schema is None:
            what = f"{_count(met)} that nobody can read: the registry knows no schema {met.schema_id}."
            yield Finding(met.oldest, what, "Bring the schema back to the registry: 'pavane schemas push'.")
        elif event not in reads and met.where == "own":
            what = f"{_count(met)} {met.event}, which this version does not know: it could not rebuild from them."
            yield Finding(met.oldest, what, f"Keep {met.event} and its fold in the version that you deploy.")
        elif event in reads and (why := why_unreadable(reads[event], met.schema)):
            told.add((event, why))
            yield Finding(met.oldest, f"{_count(met)} {met.event} that this version cannot read: {why}.", _READ_ON)
    for event, schema in reads.items():
        for number, written in enumerate(live.registry.get(event, ()), start=1):
            why = why_unreadable(schema, written)
            if why and (event, why) not in told:
                told.add((event, why))
                what = f"cannot read version {number} of {event[1]} in the registry, which may be in the log: {why}."
                yield Finding(candidate.service, what, _READ_ON)


def _not_understood(candidate: Announcement, live: Live) -> Iterator[Finding]:
    says = _events(candidate.says)
    for other in live.others(candidate.service):
        for event, schema in _events(other.said.hears).items():
            if event in says and (why := why_unreadable(schema, says[event])):
                what = f"cannot read {event[1]} as this version says it: {why}."
                remedy = f"Deploy a {other.said.service} that can first, or say it so that it is read."
                yield Finding(_named(other), what, remedy)


def _asked_in_vain(candidate: Announcement, live: Live) -> Iterator[Finding]:
    """A request that its topic's owner does not react to is lost without a word."""
    for event in _requests(candidate.says):
        for owner in live.running.get(_owner(event), ()):
            if event not in _events(owner.said.hears):
                what = f"does not react to {event[1]} of {event[0]}, which this version asks: it would be lost."
                yield Finding(_named(owner), what, f"Deploy a {owner.said.service} that does first.")
    for other in live.others(candidate.service):
        for event in _requests(other.said.says):
            if _owner(event) == candidate.service and event not in _events(candidate.hears):
                what = f"asks {event[1]} on {event[0]}, and this version does not react to it: it would be lost."
                yield Finding(_named(other), what, f"Deploy a {other.said.service} that does without it first.")


def _no_longer_said(candidate: Announcement, live: Live) -> Iterator[Finding]:
    """Somebody waits for a fact that would not come any more. Nobody waits for a request."""
    says, said = _events(candidate.says), _said_now(candidate, live)
    for other in live.others(candidate.service):
        for event in _events(other.said.hears):
            if event in said and event not in says and not event[0].endswith(REQUESTS):
                what = f"reacts to {event[1]}, which the version that runs says and this one does not."
                yield Finding(_named(other), what, f"Deploy a {other.said.service} that does without it first.")


def _no_longer_heard(candidate: Announcement, live: Live) -> Iterator[Finding]:
    """Something that has been said, or will be about orders that are in flight, would have no consequence any more."""
    hears = _events(candidate.hears)
    for event in sorted({event for mine in _own(candidate, live) for event in _events(mine.said.hears)} - hears.keys()):
        unread, parked = (live.waiting(event, where) for where in ("unread", "parked"))
        if unread or parked or live.in_flight:
            what = (
                f"does not react to {event[1]} of {event[0]}, and the version that runs does: {unread:,} are unread, "
                f"{parked:,} are parked, and {live.in_flight:,} orders are in flight."
            )
            redrive = _REDRIVE.format(candidate.service) if parked else ""
            remedy = f"Stop taking orders until none is in flight and none is unread{redrive}, or keep the reaction."
            yield Finding(candidate.service, what, remedy)


def _not_remembered(candidate: Announcement, live: Live) -> Iterator[Finding]:
    """Its tables are not those of the database, and a row could not be written."""
    for table, columns in candidate.remembers.items():
        there = live.columns.get(table, {})
        if missing := [column for column in columns if column not in there]:
            what = f"the table {table} of the database lacks {', '.join(missing)}."
            yield Finding(candidate.service, what, "Run 'pavane migrate' from its code first.")
        if needed := [column for column, is_needed in there.items() if is_needed and column not in columns]:
            what = f"the table {table} needs a value for {', '.join(needed)}, which this version does not know."
            yield Finding(candidate.service, what, "Give the column a default in the database first.")


def _not_migrated(candidate: Announcement, live: Live) -> Iterator[Finding]:
    """The kit's own tables are older than what its code writes."""
    there = max((each for each in live.migrated if each.startswith(KIT_MIGRATIONS)), default="")
    if there < candidate.migration:
        what = f"the kit's tables of the database are those of {there or 'no migration'}, not of {candidate.migration}."
        yield Finding(candidate.service, what, "Run 'pavane migrate' from its code first.")


# -- what nobody can say -----------------------------------------------------------------------------------------------


def _unknown(candidate: Announcement, live: Live) -> Iterator[Finding]:
    if live.left_out:
        what = f"of the records that it would meet, {live.left_out:,} were too many to look at."
        remedy = "Ask again when fewer are unread. Nothing in the registry speaks against it, whatever those are."
        yield Finding(candidate.service, what, remedy)


# -- what to know besides ----------------------------------------------------------------------------------------------


def _notes(candidate: Announcement, live: Live) -> Iterator[str]:
    own = [each for each in _own(candidate, live) if each.said.version != candidate.version]
    for mine in own:
        if mine.is_live and mine.said.hears.keys() != candidate.hears.keys():
            yield (
                f"{_named(mine)} hears other topics: both in one group would own no whole lane. Stop it before this "
                f"version starts; what it has to hear waits in the log."
            )
    known = {event for mine in own for event in _events(mine.said.hears)}
    if own:
        for topic, event in sorted(_events(candidate.hears).keys() - known):
            yield f"It reacts to {event} of {topic} from now on; what was heard before is not heard again."
        for topic, event in sorted(_unheard(candidate, live)):
            yield (
                f"It says {event} from now on, and nobody that runs hears it: deploy who shall hear it first, as what "
                f"is said on {topic} before that is not heard again."
            )
        declared = (candidate.says, candidate.hears, candidate.remembers)
        if any((mine.said.says, mine.said.hears, mine.said.remembers) == declared for mine in own):
            yield "It declares what runs now, with other code: what it would decide otherwise is not asked here."
    asks_nothing = not live.running.get(GATEWAY, (True,)) and GATEWAY not in live.remade
    if asks_nothing and candidate.service != GATEWAY and any(live.running.values()):
        yield (
            "No gateway ever said what it asks: if one runs, it is of a version that does not announce itself, and was "
            "not judged by. Go by 'pavane schemas check'."
        )
    for name, running in sorted(live.running.items()):
        for each in running:
            if not each.is_live and name != candidate.service:
                yield f"{name} does not run; it was judged by the version that ran last, {each.said.version}."


def _unheard(candidate: Announcement, live: Live) -> set[EventName]:
    """Facts that it says and the version that runs does not, and that no other service reads."""
    heard = {event for other in live.others(candidate.service) for event in _events(other.said.hears)}
    new = _events(candidate.says).keys() - _said_now(candidate, live) - heard
    return {event for event in new if not event[0].endswith(REQUESTS)}


_REDRIVE = ", and redrive or discard what is parked ('pavane dead-letters list --service {}')"
_READ_ON = "Read it as it was written: give new fields a default, and keep the types and symbols."


def _events(schemas: Mapping[str, Mapping[str, AvroSchema]]) -> dict[EventName, AvroSchema]:
    return {(topic, name): schema for topic, events in schemas.items() for name, schema in events.items()}


def _requests(schemas: Mapping[str, Mapping[str, AvroSchema]]) -> list[EventName]:
    return sorted(event for event in _events(schemas) if event[0].endswith(REQUESTS))


def _owner(request: EventName) -> str:
    """The service that hears it."""
    return request[0].removesuffix(REQUESTS)


def _own(candidate: Announcement, live: Live) -> Iterable[Running]:
    return live.running.get(candidate.service, ())


def _said_now(candidate: Announcement, live: Live) -> set[EventName]:
    return {event for mine in _own(candidate, live) for event in _events(mine.said.says)}


def _named(running: Running) -> str:
    return f"{running.said.service} {running.said.version}"


def _count(met: Met) -> str:
    things = "record" if met.records == 1 else "records"
    return f"its own topic has {met.records:,}" if met.where == "own" else f"{met.records:,} {met.where} {things}"
