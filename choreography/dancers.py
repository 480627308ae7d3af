"""The real decisions of the real services, as a table of small integers that fills itself.

Decisions and folds are pure, so what a service makes of one event, in given rows and with given records of the outside
world, is computed once and looked up from then on. Values are interned: the explorer compares and hashes integers.
"""

import importlib
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from streams.kit.errors import Refused
from streams.kit.events import Answer, Due, Effect, Event, Fact, Heard, State
from streams.kit.lane import REQUESTS
from streams.kit.service import Reaction, Said, Service
from streams.kit.simulation import Record, Script

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
#: When deadlines are looked for: all have passed.
LATER = datetime(2100, 1, 1, tzinfo=UTC)
Rows = tuple[State, ...]
Records = tuple[Record, ...]


class Broken(Exception):
    """A promise is broken: the words say which."""


class Followed(NamedTuple):
    """What follows when a service hears one event: its rows, the shared rows, the world's records, what it said.

    `asked`: each effect, with the world's records before it. `reads`, `writes`: it reads or changes shared rows.
    `refused`: an ordinary refusal of a request, with nothing else.
    """

    rows: int
    shared: int
    world: int
    said: tuple[int, ...] = ()
    asked: tuple[tuple[int, int], ...] = ()
    reads: bool = False
    writes: bool = False
    refused: bool = False


class Values:
    """Gives every value a small number; equal values of one type have one number. An empty tuple's is 0."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {(tuple, ()): 0}
        self._values: list[Any] = [()]

    def number(self, value: Any) -> int:
        key = (type(value), value)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._values)
            self._values.append(value)
        return number

    def __getitem__(self, number: int) -> Any:
        return self._values[number]


class Dancers:
    """The services that decide (projections only look on), and the outside worlds that they ask."""

    def __init__(self, services: Iterable[Service], scripts: Mapping[str, Script[Any]] | None = None) -> None:
        self.services = tuple(service for service in services if not service.is_projection)
        self.names = tuple(service.name for service in self.services)
        self.values = Values()
        self.reached: set[tuple[str, str]] = set()
        self.effects: dict[tuple[int, int], set[int]] = {}
        self._scripts = _scripts(self.services) if scripts is None else scripts
        self._followed: dict[tuple[int, ...], Followed] = {}
        self._inert: dict[tuple[int, int, int, int], bool] = {}
        self._views: dict[tuple[int, int], int | None] = {}
        self._moved = [
            {view.__name__ for view in service.reactions if issubclass(view, Heard) and view.topic == speaker}
            for service in self.services
            for speaker in self.names
        ]

    # -- who hears what ------------------------------------------------------------------------------------------------

    def listens(self, listener: int, speaker: int) -> bool:
        """Does the listener hear the speaker's topic at all?"""
        return self.names[speaker] in self.services[listener].topics

    def moves(self, listener: int, speaker: int, fact: int) -> bool:
        """Does the listener react to this fact of the speaker?"""
        return self.name_of(fact) in self._moved[listener * len(self.services) + speaker]

    def facts(self) -> Iterator[Fact]:
        """Every fact that was said, in the order of the first time."""
        for followed in self._followed.values():
            yield from (self.values[fact] for fact in followed.said)

    def has_one_speaker(self, listener: int) -> bool:
        """Among the dancers it hears one alone, and it neither asks the world nor waits for deadlines."""
        service = self.services[listener]
        speakers = [name for name in self.names if name in service.topics]
        return len(speakers) == 1 and not service.answering and not service.timed

    @property
    def effect_count(self) -> int:
        """How many different effects were asked so far."""
        return sum(map(len, self.effects.values()))

    def name_of(self, event: int) -> str:
        """The name of an event's type."""
        return type(self.values[event]).__name__

    def as_heard(self, listener: int, fact: int) -> int:
        """The fact in the listener's own view."""
        place = (listener, fact)
        found = self._views.get(place)
        if found is None:
            event = self.values[fact]
            service = self.services[listener]
            view = next(v for v in service.reactions if v.__name__ == type(event).__name__)
            fields = {"at": NOON, **msgspec.to_builtins(event, builtin_types=(datetime,))}
            found = self._views[place] = self.values.number(msgspec.convert(fields, view))
        return found

    def is_due(self, listener: int, rows: int) -> bool:
        """Does one of these rows wait for a deadline?"""
        timed = self.services[listener].timed
        return any(isinstance(row, timed) and getattr(row, "due_at", None) is not None for row in self.values[rows])

    def overtakes(self, listener: int, event: int, key: int, rows: int) -> bool:
        """Does it wait behind no parked event about the key?"""
        heard = self.values[event]
        reaction = self.services[listener].reactions[type(heard)]
        about: str = reaction.key(heard) if reaction.key else self.values[key]
        found = (row for row in self.values[rows] if isinstance(row, reaction.state) and row.row_key == about)
        return any(map(reaction.may_overtake, found))

    # -- what follows --------------------------------------------------------------------------------------------------

    def hear(self, listener: int, event: int, key: int, rows: int, shared: int, world: int) -> Followed:
        """What follows when the event about `key` is heard, and the world answers. Raises `Broken`."""
        place = (listener, event, key, rows, shared, world)
        found = self._followed.get(place)
        if found is None:
            found = self._followed[place] = _Hearing(self, listener, key, rows, shared, world).of(self.values[event])
        return found

    def land(self, listener: int, effect: int, world: int) -> int:
        """The world's records once an effect has arrived whose asker is gone."""
        return self.ask(listener, self.values[effect], world)[0]

    def is_inert(self, listener: int, key: int, effect: int, world: int) -> bool:
        """Whatever else the service may still ask about the key, this effect would change nothing any more."""
        known = self.effects.get((listener, key), set())
        place = (listener, effect, world, len(known))
        found = self._inert.get(place)
        if found is None:
            worlds, todo = {world}, [world]
            while todo:
                before = todo.pop()
                new = {self.land(listener, each, before) for each in known} - worlds
                worlds |= new
                todo += new
            found = self._inert[place] = all(self.land(listener, effect, each) == each for each in worlds)
        return found

    def ask(self, listener: int, effect: Effect, world: int) -> tuple[int, Answer]:
        """The world's records and its answer. Every effect goes to the record of its key."""
        script = self._scripts[self.names[listener]]
        records = {record.key: record for record in self.values[world]}
        order = getattr(effect, "order_id", "")
        known = records.get(effect.key) or script.record(key=effect.key, order_id=order)
        records[effect.key], answer = script.answer(known, effect, NOON)
        return self.values.number(tuple(records[key] for key in sorted(records))), answer


class _Hearing:
    """One event heard once: the same steps as `Fold._decide`, on interned values."""

    def __init__(self, dancers: Dancers, listener: int, key: int, rows: int, shared: int, world: int) -> None:
        values = dancers.values
        self._dancers = dancers
        self._listener = listener
        self._service = dancers.services[listener]
        self._number = key
        self._key: str = values[key] if key else ""
        self._before = (rows, shared, world)
        self._own = {(type(row), row.row_key): row for row in values[rows]}
        self._shared = {(type(row), row.row_key): row for row in values[shared]}
        self._world = world
        self._said: list[int] = []
        self._asked: list[tuple[int, int]] = []
        self._reads = self._writes = False

    def of(self, event: Event) -> Followed:
        reaction = self._service.reactions[type(event)]
        what = f"{self._service.name} cannot decide about {type(event).__name__}"
        key = self._key or getattr(event, "key", "")
        self._dancers.reached.add((self._service.name, type(event).__name__))
        try:
            self._decide(event, reaction, key)
        except Refused as refusal:
            if isinstance(event, Heard) and event.topic.endswith(REQUESTS):
                rows, shared, world = self._before
                return Followed(rows, shared, world, refused=True)
            raise Broken(f"{what}, which is no request: it refuses ({refusal})") from refusal
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{what}: {type(error).__name__}: {error}") from error
        number = self._dancers.values.number
        return Followed(
            number(_in_order(self._own)),
            number(_in_order(self._shared)),
            self._world,
            tuple(self._said),
            tuple(self._asked),
            self._reads,
            self._writes,
        )

    def _decide(self, event: Event, reaction: Reaction, key: str) -> None:
        row = reaction.key(event) if reaction.key else key
        to_do: deque[Said] = deque(
            self._service.decide(self._row(reaction.state, row), event, self._read(reaction, event))
        )
        while to_do:
            said = to_do.popleft()
            if isinstance(said, Effect):
                effect = self._dancers.values.number(said)
                self._dancers.effects.setdefault((self._listener, self._number), set()).add(effect)
                self._asked.append((self._world, effect))
                self._world, answer = self._dancers.ask(self._listener, said, self._world)
                self._dancers.reached.add((self._service.name, f"{type(said).__name__}/{type(answer).__name__}"))
                state = self._row(reaction.state, row)
                to_do.extendleft(reversed(self._service.answer(state, said, answer)))
            else:
                self._say(said, key)
        due_at = getattr(self._row(reaction.state, row), "due_at", None)
        if isinstance(event, Due) and due_at is not None and due_at <= event.at:
            raise Broken(f"the deadline of {key} has passed, and {self._service.name} neither moves nor clears it")

    def _say(self, fact: Fact, key: str) -> None:
        name = type(fact).__name__
        if name not in self._service.says:
            raise Broken(f"{self._service.name} says {name} and does not declare it")
        if fact.key != key:
            raise Broken(f"{name} is about {fact.key!r} and answers an event about {key!r}: it is in another partition")
        self._dancers.reached.add((self._service.name, name))
        self._said.append(self._dancers.values.number(fact))
        for evolution in self._service.evolutions[type(fact)]:
            for each in evolution.keys_of(fact, key):
                row = evolution.evolve(self._row(evolution.state, each), fact)
                self._heap(evolution.state, each)[evolution.state, each] = row
                self._writes = self._writes or evolution.state.shared

    def _read(self, reaction: Reaction, event: Event) -> dict[str, State] | None:
        if reaction.reads is None:
            return None
        self._reads = self._reads or reaction.reads.state.shared
        return {key: self._row(reaction.reads.state, key) for key in reaction.reads.keys(event)}

    def _row(self, state: type[State], key: str) -> State:
        return self._heap(state, key).get((state, key)) or state.new(key, 0)

    def _heap(self, state: type[State], key: str) -> dict[tuple[type[State], str], State]:
        return self._own if key == self._key and not state.shared else self._shared


def _in_order(rows: Mapping[tuple[type[State], str], State]) -> Rows:
    return tuple(rows[place] for place in sorted(rows, key=lambda place: (place[0].table, place[1])))


def _scripts(services: Sequence[Service]) -> dict[str, Script[Any]]:
    """The simulated worlds of all services that ask: `SCRIPT` of the module `simulator` beside the service."""
    return {
        service.name: importlib.import_module(f"streams.{service.name}.simulator").SCRIPT
        for service in services
        if service.world is not None
    }
