"""Every decision of one service beside the one of then.

The rows always follow the facts of then, also after a difference: so each difference is one of its own, and not the
consequence of an earlier one.

A record that was answered by nothing may have been parked, and answered later. So one about which something would be
said now waits for a fact that names it as its cause, and what was heard after it of the same key waits behind it, as
parked records do, unless it was answered and calls them off. What waits at the end is a difference, unless the
service's database says that it waits there too.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pavane.replay.deciding import Decider, Read
from pavane.replay.hearing import END, Moment, due
from pavane.replay.history import Origin
from pavane.replay.outcome import Outcome
from pavane.replay.report import Report
from pavane.replay.states import WINDOW_MILLISECONDS, Change, States
from pavane.replay.undecided import AllUndecided, Undecided
from streams.kit.events import Fact
from streams.kit.fold import is_request
from streams.kit.lane import Delivery, Lane
from streams.kit.log import Record
from streams.kit.opening import Opened
from streams.kit.parking import DISCARDED

MOST_WAITING = 20_000
MOST_SILENT = 10_000
MOST_ORDERS_TRIED = 200


class Waiting(NamedTuple):
    """A record that nothing has answered yet. `would`: what is said to it now, unless it waits behind another one."""

    opened: Opened
    would: Outcome | None


class Judge:
    """Judges moments, of all lanes in the order of time. `lanes`: where each lane has got to."""

    def __init__(
        self,
        decider: Decider,
        states: States,
        report: Report,
        lanes: Mapping[int, Lane],
        dead_letters: Mapping[Origin, str],
        unhandled: frozenset[Origin],
    ) -> None:
        self._decider = decider
        self._states = states
        self._report = report
        self._lanes = lanes
        self._dead_letters = dead_letters
        self._unhandled = unhandled | {place for place, why in dead_letters.items() if why == DISCARDED}
        self._waiting: dict[tuple[int, str], list[Waiting]] = {}
        self._undecided = AllUndecided()
        #: What nothing is said to now, and nothing was yet: the last ones of all lanes, by id.
        self._silent: dict[str, Opened] = {}
        self._count = 0
        self._now = 0.0
        states.changed = self._try_newer

    def judge(self, moment: Moment, *, compares: bool = True) -> None:
        """Decide about what was heard, then let the facts of then change the rows. `compares`: else only that."""
        self._expire(moment.timestamp)
        facts = [self._decider.recall(record) for record in moment.facts]
        lane = self._lanes[moment.partition]
        answered: Opened | None = None
        for delivery in moment.heard if compares else ():
            opened = self._decider.open(lane, delivery)
            if delivery.envelope.id == moment.cause:
                answered = opened
            else:
                self._unanswered(lane, opened)
        if facts:
            was = Outcome([said for _, said in facts])
            about = tuple(fact for fact, _ in facts)
            if answered is None and compares:
                answered = self._deadline(lane, moment.cause, moment.facts[0])
            self._answered(lane, answered, moment, about, was, compares)
        for (fact, _), record in zip(facts, moment.facts, strict=True):
            self._states.fold(fact, (record.key or b"").decode(), moment.partition, moment.timestamp)

    def end(self) -> None:
        """Nothing more was heard: whatever still waits has its end."""
        for partition, key in list(self._waiting):
            self._release(self._lanes[partition], key)
        self._expire(END)

    # -- what was answered, and what was not -------------------------------------------------------------------------

    def _unanswered(self, lane: Lane, opened: Opened) -> None:
        if opened.event is None and opened.problem is None:
            return  # nothing that the service listens to
        place = (lane.partition, opened.key)
        if place in self._waiting:
            self._wait(place, Waiting(opened, None))
            return
        would = self._decider.decide(lane, opened, ())
        if would.is_nothing and _origin(opened) not in self._dead_letters:
            self._count_in(opened)
            self._silent[opened.delivery.envelope.id] = opened
            if len(self._silent) > MOST_SILENT:
                del self._silent[next(iter(self._silent))]
        elif is_request(opened) and would.failed is not None and _origin(opened) in self._dead_letters:
            # Refused then and now: a request that is itself wrong holds nobody.
            self._compare(lane, opened, (), self._was_aside(opened), would)
        else:
            self._wait(place, Waiting(opened, would))

    def _answered(
        self, lane: Lane, opened: Opened | None, moment: Moment, facts: tuple[Fact, ...], was: Outcome, compares: bool
    ) -> None:
        key = (moment.facts[0].key or b"").decode()
        if opened is None:
            opened = self._taken_from_line(lane, key, moment.cause) or self._silent_till_now(moment.cause)
        elif self._decider.overtakes(opened):
            # What it called off may wait, and finds a row in which it has nothing to do any more.
            self._think_again((lane.partition, key))
        else:
            # Had one of these been parked, this record would have waited behind it.
            self._release(lane, key)
        if opened is not None:
            self._compare(lane, opened, facts, was, self._decider.decide(lane, opened, facts))
        elif compares:
            self._report.not_told += 1

    def _deadline(self, lane: Lane, cause: str, fact: Record) -> Opened | None:
        delivery: Delivery | None = due(lane.me, cause, fact)
        return self._decider.open(lane, delivery) if delivery is not None else None

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait(self, place: tuple[int, str], waiting: Waiting) -> None:
        self._waiting.setdefault(place, []).append(waiting)
        self._count += 1
        if self._count > MOST_WAITING:
            partition, key = next(iter(self._waiting))
            self._release(self._lanes[partition], key)

    def _think_again(self, place: tuple[int, str]) -> None:
        """What is said to these is what will be said to them upon the rows of later."""
        if line := self._waiting.pop(place, []):
            self._waiting[place] = [each._replace(would=None) for each in line]

    def _taken_from_line(self, lane: Lane, key: str, cause: str) -> Opened | None:
        """The record that was answered after it had waited; those before it had been let go of with nothing said, or
        it has called them off."""
        line = self._waiting.get((lane.partition, key), [])
        at = next((n for n, each in enumerate(line) if each.opened.delivery.envelope.id == cause), None)
        if at is None:
            return None
        place, opened = (lane.partition, key), line.pop(at).opened
        self._count -= 1
        if self._decider.overtakes(opened):
            self._think_again(place)
            return opened
        behind = line[at:]
        del line[at:]
        self._count -= len(behind)
        self._release(lane, key)
        for each in behind:
            self._wait(place, each)
        return opened

    def _silent_till_now(self, cause: str) -> Opened | None:
        """A record to which today's code says nothing: it had waited all the same."""
        opened = self._silent.pop(cause, None)
        if opened is not None:
            self._report.decided[self._decider.reaction(opened)] -= 1  # it is counted where it was answered
        return opened

    def _release(self, lane: Lane, key: str) -> None:
        """Nothing will answer these any more."""
        for each in self._waiting.pop((lane.partition, key), ()):
            self._count -= 1
            if _origin(each.opened) in self._unhandled:
                self._report.waiting += 1
                continue
            would = each.would if each.would is not None else self._decider.decide(lane, each.opened, ())
            self._compare(lane, each.opened, (), self._was_aside(each.opened), would)

    # -- comparing ---------------------------------------------------------------------------------------------------

    def _compare(
        self, lane: Lane, opened: Opened, facts: tuple[Fact, ...], was: Outcome, would: Outcome
    ) -> None:
        self._count_in(opened)
        would = would.protected_as(was)
        if would.same_as(was):
            return
        row, read, until = self._decider.row(lane, opened), self._decider.read(opened), self._now + WINDOW_MILLISECONDS
        undecided = Undecided(lane, opened, facts, was, would, until, row, read)
        if any(self._is_same_upon(undecided, rows) for rows in self._states.earlier(read, lane.partition)):
            self._report.settled_by_order += 1
        elif read:
            self._undecided.add(undecided)
        else:
            self._differs(undecided)

    def _is_same_upon(self, undecided: Undecided, read: Read) -> bool:
        """Would the same be said upon these rows of other keys?"""
        undecided.tried += 1
        if undecided.tried > MOST_ORDERS_TRIED:
            return False
        would = self._decider.decide(undecided.lane, undecided.opened, undecided.facts, read, undecided.row)
        return would.protected_as(undecided.was).same_as(undecided.was)

    def _try_newer(self, change: Change) -> None:
        """A row that others read has changed: perhaps it had changed before those decisions that differ."""
        key = change.place[1]
        for undecided in self._undecided.touched_by(change):
            undecided.read[key] = change.done(undecided.read[key])
            if self._is_same_upon(undecided, undecided.read):
                self._undecided.remove(undecided)
                self._report.settled_by_order += 1

    def _expire(self, now: float) -> None:
        """Nothing that changes from now on can have been changed before these."""
        self._now = now
        for undecided in self._undecided.take_until(now):
            self._differs(undecided)

    def _differs(self, found: Undecided) -> None:
        example = (found.opened.delivery.envelope.id, found.opened.key)
        self._report.differs(self._decider.reaction(found.opened), example, found.was, found.would)

    def _count_in(self, opened: Opened) -> None:
        reaction = self._decider.reaction(opened)
        self._report.decided[reaction] = self._report.decided.get(reaction, 0) + 1

    def _was_aside(self, opened: Opened) -> Outcome:
        """What became of a record that no fact answers: nothing, or a dead letter."""
        why = self._dead_letters.get(_origin(opened))
        return Outcome(failed=(why, "")) if why is not None else Outcome()


def _origin(opened: Opened) -> Origin:
    record = opened.delivery.record
    return record.topic, record.partition, record.offset
