"""The rows that a service's database must hold: the fold of the facts up to the clock of its snapshot, row by row.

A service's rows are the fold of what it said itself, a projection's of what it heard. The clock in the snapshot says
exactly which facts those are, so the comparison needs no standstill: later facts are left out, and facts that are
committed but not in the log yet are folded from the outbox.

The limits: facts are folded topic by topic, each in its own order. Rows of services depend on one topic only. A
projection whose folds depend on how the facts of several speakers interleave could not be compared like this.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from pavane.audit.ledger import Said
from pavane.audit.report import Tally
from pavane.audit.snapshot import Rows, Snapshot
from streams.kit.codec import GIVEN_BY_THE_KIT
from streams.kit.events import About, Event, State, from_milliseconds

PROMISE = "Every service's rows are the fold of the facts that it has said itself, row by row."
PROJECTION_PROMISE = "Every view's rows are the fold of the facts that it has heard, row by row."
S = TypeVar("S", bound=State)
Made = Callable[[Said, State], None]


class Rebuild:
    """Folds the rows of one snapshot from the facts that go by. `rows`: what they became, without the append-only ones:
    `made` is called with each of those, and the fact that makes it."""

    def __init__(self, snapshot: Snapshot, made: Made) -> None:
        service = snapshot.service
        self.rows: dict[type[State], dict[str, State]] = {
            state: {} for state in service.states if not state.append_only
        }
        self.failed: list[str] = []
        self._snapshot = snapshot
        self._made = made
        # What a projection has parked is not in its rows. (What a service has parked, others have said.)
        self._unhandled = snapshot.unhandled
        self._evolutions = service.evolutions
        self._events: dict[tuple[str, str], type[Event]] = (
            {(view.topic, view.__name__): view for view in service.views}
            if service.is_projection
            else {(service.name, name): fact for name, fact in service.says.items()}
        )
        self._given = {event: GIVEN_BY_THE_KIT.intersection(event.__struct_fields__) for event in self._events.values()}

    @property
    def topics(self) -> frozenset[str]:
        """The topics whose facts are folded into these rows."""
        return frozenset(topic for topic, _ in self._events)

    def hear(self, said: Said) -> None:
        """Fold the fact, if the snapshot's clock includes it."""
        event = self._events.get((said.topic, said.name))
        if event is None or said.sequence > self._snapshot.known(said.partition, said.topic):
            return
        if (said.topic, said.partition, said.offset) in self._unhandled:
            return
        try:
            self._fold(said, msgspec.convert(self._fields(event, said), event))
        except Exception as error:
            # Whatever a fold makes of a fact that it cannot take: the row is then known to be wrong.
            self.failed.append(f"{said.envelope.id} ({said.name} about {said.key}) cannot be folded: {error!r}")

    def _fold(self, said: Said, fact: Event) -> None:
        for evolution in self._evolutions.get(type(fact), ()):
            rows = self.rows.get(evolution.state)
            for key in evolution.keys_of(fact, said.key):
                if rows is None:
                    self._made(said, evolution.evolve(evolution.state.new(key, said.partition), fact))
                else:
                    row = rows.get(key) or evolution.state.new(key, said.partition)
                    rows[key] = evolution.evolve(row, fact)

    def _fields(self, event: type[Event], said: Said) -> Mapping[str, Any]:
        if not (given := self._given[event]):
            return said.fields
        fields = dict(said.fields)
        if "at" in given:
            fields["at"] = from_milliseconds(said.timestamp)
        if "about" in given:
            # The ordinal depends on how the lane's topics were read, so no row that is compared may hold it.
            about = said.envelope
            fields["about"] = About(
                id=about.id,
                name=said.name,
                speaker=about.speaker,
                cause=about.cause,
                correlation=about.correlation,
                ordinal=0,
            )
        return fields


def compare(snapshot: Snapshot, rebuild: Rebuild, tally: Tally) -> Rows:
    """Compare every row of the snapshot with its rebuilt twin; the rows of the snapshot, for other checks."""
    name = snapshot.name
    for failure in rebuild.failed:
        tally.violation(f"{name}: {failure}")
    live: dict[type[State], dict[str, State]] = {}
    for state, rebuilt in rebuild.rows.items():
        rows = live[state] = {}
        for document in snapshot.documents(state):
            tally.checked += 1
            row = read(name, state, document, tally)
            if row is None:
                continue
            key = row.row_key
            expected = rebuilt.get(key)
            # The twin is kept where they are equal, so that every row is in memory once.
            rows[key] = expected if expected is not None and expected == row else row
            if expected is None:
                tally.violation(f"{name}.{state.table} {key}: no fact says that this row exists")
            elif expected != row:
                tally.violation(f"{name}.{state.table} {key}: {_difference(row, expected)}")
        for key in rebuilt.keys() - rows.keys():
            tally.violation(f"{name}.{state.table} {key}: the row is missing; the facts make it {rebuilt[key]}")
    return live


def read(name: str, state: type[S], document: str | bytes, tally: Tally) -> S | None:
    """The row of that service; None, and a violation, when it is none."""
    try:
        return msgspec.json.decode(document, type=state, strict=False)
    except msgspec.DecodeError as error:
        key = msgspec.json.decode(document).get(state.key)
        tally.violation(f"{name}.{state.table} {key}: the row is no {state.__name__}: {error}")
        return None


def _difference(row: State, expected: State) -> str:
    fields = [
        f"{field} is {found!r}, the facts make it {wanted!r}"
        for field in row.__struct_fields__
        if (found := getattr(row, field)) != (wanted := getattr(expected, field))
    ]
    return "; ".join(fields)
