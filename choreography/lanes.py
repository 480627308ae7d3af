"""One order's lane through all services, and everything that can happen to it next: the explorer's model of the worker.

What is modelled is what the worker promises (`streams.kit`), by the kit's own rule of the clock: facts of one key come
from each speaker in order, not before their causes, and once. A batch is lost or commits as a whole; an effect of a
lost batch reaches the world now, later or never; what the world does not answer is parked, with all that follows it but
what calls it off.

Two things make states few. A lane knows only what is still to be heard: sequences count from what everybody has heard.
And a fact that a service does not react to is passed over only when a later one is heard: that is the most that any
order of reading allows, since what a service says later can then be heard everywhere as early as ever.
"""

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from choreography.dancers import LATER, Broken, Dancers, Followed
from streams.kit import clock as causal
from streams.kit.clock import Verdict
from streams.kit.events import Due

#: A pending fact, and the clock that it carries.
Pending = tuple[int, tuple[int, ...]]


class Part(NamedTuple):
    """What one service has of an order. `clock`: how much it has heard of each dancer, and said itself.

    `said`: its facts that somebody has still to hear. `parked`: events that wait, in order. `flying`: effects of lost
    batches that may still reach the world.
    """

    rows: int = 0
    world: int = 0
    clock: tuple[int, ...] = ()
    said: tuple[Pending, ...] = ()
    parked: tuple[int, ...] = ()
    flying: tuple[int, ...] = ()


class Lane(NamedTuple):
    """One order everywhere. `asked`: how often each request may still come. `told`: all facts ever said."""

    key: int
    parts: tuple[Part, ...]
    asked: tuple[tuple[int, int], ...]
    told: frozenset[int] = frozenset()


class Move(NamedTuple):
    """One thing that happens in a lane. `what`: hear, park, late, lose, retry, due, ask or land.

    `event`: the fact, request or effect. `path`: of a lost batch, what it had heard.
    """

    what: str
    service: int
    event: int
    speaker: int = -1
    path: tuple["Move", ...] = ()


class Step(NamedTuple):
    """A move, the lane and the shared rows after it, and whether it concerns shared rows.

    `broken`: the promise that it breaks; then nothing comes after it.
    """

    move: Move
    lane: Lane
    shared: int
    reads: bool = False
    writes: bool = False
    broken: str = ""


class Lanes:
    """What can happen next in a lane of these dancers."""

    def __init__(self, dancers: Dancers, request_owner: dict[int, int]) -> None:
        self._dancers = dancers
        self._owner = request_owner
        self._due = dancers.values.number(Due(at=LATER))
        self._next: dict[Hashable, tuple[tuple[int, ...], int] | None] = {}
        count = len(dancers.services)
        self._listeners = [[m for m in range(count) if dancers.listens(m, s)] for s in range(count)]
        self._hears = [frozenset(dancers.services[m].topics) for m in range(count)]

    def new(self, key: int, asked: tuple[tuple[int, int], ...]) -> Lane:
        """Nothing has happened yet; these requests may come, each so many times."""
        count = len(self._dancers.services)
        return Lane(key, (Part(clock=(0,) * count),) * count, asked)

    def steps(self, lane: Lane, shared: int, *, faults: bool = True) -> Iterator[Step]:
        """Everything that can happen next."""
        for service in range(len(lane.parts)):
            for move in self._hearable(lane, service):
                try:
                    yield from self._hear(lane, shared, move, faults)
                except Broken as broken:
                    yield Step(move, lane, shared, broken=str(broken))
                    return
            if faults:
                yield from self._lost(lane, shared, service)
            for effect in lane.parts[service].flying:
                yield self._landed(lane, shared, service, effect)

    def hearable(self, lane: Lane) -> Iterator[Move]:
        """What every service may hear now."""
        for service in range(len(lane.parts)):
            yield from self._hearable(lane, service)

    # -- what a service may hear now -----------------------------------------------------------------------------------

    def _hearable(self, lane: Lane, service: int) -> Iterator[Move]:
        part = lane.parts[service]
        for request, left in lane.asked:
            if left and self._owner[request] == service:
                yield Move("ask", service, request)
        if part.parked:
            yield Move("retry", service, self._tried(lane, service))
        elif self._dancers.is_due(service, part.rows):
            yield Move("due", service, self._due)
        for speaker, other in enumerate(lane.parts):
            if other.said and speaker != service:
                found = self._next_of(lane, service, speaker)
                if found is not None:
                    yield Move("hear", service, found[1], speaker)

    def _tried(self, lane: Lane, service: int) -> int:
        """Which of the parked events is tried: the first, or what calls it off."""
        parked = lane.parts[service].parked
        return next((event for event in parked[1:] if self._overtakes(lane, service, event)), parked[0])

    def _overtakes(self, lane: Lane, service: int, event: int) -> bool:
        return self._dancers.overtakes(service, event, lane.key, lane.parts[service].rows)

    def _waits(self, lane: Lane, move: Move) -> bool:
        """It is parked behind others."""
        if move.what not in ("hear", "ask") or not lane.parts[move.service].parked:
            return False
        return not self._overtakes(lane, move.service, self._event(move))

    def _next_of(self, lane: Lane, service: int, speaker: int) -> tuple[tuple[int, ...], int] | None:
        """The speaker's next fact that moves the service, and the service's clock once it has heard it."""
        parts = lane.parts
        place = (service, speaker, parts[service].clock, tuple(part.said for part in parts))
        if place not in self._next:
            self._next[place] = self._judge(lane, service, speaker)
        return self._next[place]

    def _judge(self, lane: Lane, service: int, speaker: int) -> tuple[tuple[int, ...], int] | None:
        if not self._dancers.listens(service, speaker):
            return None
        names = self._dancers.names
        known = dict(zip(names, lane.parts[service].clock, strict=True))
        for sequence, (fact, _) in enumerate(lane.parts[speaker].said, 1):
            verdict = self._hears_now(lane, service, known, speaker, sequence)
            if verdict is Verdict.KNOWN:
                continue  # delivered twice, or a day late: the clock knows it
            if verdict is not Verdict.NEXT:
                return None
            if self._dancers.moves(service, speaker, fact):
                return tuple(known[name] for name in names), fact
        return None

    def _hears_now(self, lane: Lane, service: int, known: dict[str, int], speaker: int, sequence: int) -> Verdict:
        """Hear one fact, if its causes were heard or are facts that do not move the service: those are heard first."""
        names, hears = self._dancers.names, self._hears[service]
        _, carried = lane.parts[speaker].said[sequence - 1]
        heard = dict(zip(names, carried, strict=True))
        verdict = causal.judge(known, hears, names[speaker], sequence, heard)
        if verdict is Verdict.EARLY and all(
            self._passes_over(lane, service, known, other, cause)
            for other, cause in enumerate(carried)
            if other != speaker and names[other] in hears and cause > known[names[other]]
        ):
            verdict = causal.judge(known, hears, names[speaker], sequence, heard)
        if verdict is Verdict.NEXT:
            causal.hear(known, hears | {names[service]}, names[speaker], sequence, heard)
        return verdict

    def _passes_over(self, lane: Lane, service: int, known: dict[str, int], speaker: int, sequence: int) -> bool:
        """Hear the speaker's facts up to one, if none of them moves the service."""
        said, name = lane.parts[speaker].said, self._dancers.names[speaker]
        while known[name] < sequence:
            if self._dancers.moves(service, speaker, said[known[name]][0]):
                return False
            if self._hears_now(lane, service, known, speaker, known[name] + 1) is not Verdict.NEXT:
                return False
        return True

    # -- what becomes of it --------------------------------------------------------------------------------------------

    def _hear(self, lane: Lane, shared: int, move: Move, faults: bool) -> Iterator[Step]:
        """The batch commits; or the world does not answer, having done what was asked or not."""
        if self._waits(lane, move):
            yield Step(move, self._parked(lane, move), shared)
            return
        followed = self._follows(lane, shared, move)
        yield self._committed(lane, move, followed)
        if faults and followed.asked and move.what != "retry":
            parked = self._parked(lane, move)
            yield Step(move._replace(what="park"), parked, shared)
            late = self._flying(parked, move.service, followed.asked[0][1])
            if late != parked:
                yield Step(move._replace(what="late"), late, shared)

    def _follows(self, lane: Lane, shared: int, move: Move) -> Followed:
        part = lane.parts[move.service]
        return self._dancers.hear(move.service, self._event(move), lane.key, part.rows, shared, part.world)

    def _event(self, move: Move) -> int:
        return self._dancers.as_heard(move.service, move.event) if move.speaker >= 0 else move.event

    def _committed(self, lane: Lane, move: Move, followed: Followed) -> Step:
        lane = self._moved(lane, move)
        part = lane.parts[move.service]
        clock = list(part.clock)
        said = list(part.said)
        names = {self._dancers.name_of(fact) for fact in lane.told}
        for fact in followed.said:
            name = self._dancers.name_of(fact)
            if name in names:
                raise Broken(f"{name} is said twice about one order")
            names.add(name)
            if self._is_heard(move.service, fact):
                clock[move.service] += 1
                said.append((fact, tuple(clock)))
        parked = list(part.parked)
        if move.what == "retry":
            parked.remove(move.event)
        part = part._replace(
            rows=followed.rows, world=followed.world, clock=tuple(clock), said=tuple(said), parked=tuple(parked)
        )
        told = lane.told.union(followed.said) if followed.said else lane.told
        lane = self._settled(lane._replace(parts=_with(lane.parts, move.service, part), told=told))
        if part.flying:
            lane = self._flying(lane, move.service)
        return Step(move, lane, followed.shared, followed.reads, followed.writes)

    def _parked(self, lane: Lane, move: Move) -> Lane:
        lane = self._moved(lane, move)
        part = lane.parts[move.service]
        part = part._replace(parked=(*part.parked, self._event(move)))
        return self._settled(lane._replace(parts=_with(lane.parts, move.service, part)))

    def _moved(self, lane: Lane, move: Move) -> Lane:
        """The clock has moved over what was heard, or one request less is to come."""
        if move.speaker >= 0:
            part = lane.parts[move.service]
            found = self._next_of(lane, move.service, move.speaker)
            assert found is not None
            return lane._replace(parts=_with(lane.parts, move.service, part._replace(clock=found[0])))
        if move.what in ("ask", "park", "late"):
            asked = tuple((each, left - (each == move.event)) for each, left in lane.asked)
            return lane._replace(asked=asked)
        return lane

    def _is_heard(self, speaker: int, fact: int) -> bool:
        """Some dancer reacts to it. Of all other facts nothing is kept: they make nobody wait whom others do not."""
        return any(self._dancers.moves(listener, speaker, fact) for listener in self._listeners[speaker])

    # -- lost batches --------------------------------------------------------------------------------------------------

    def _lost(self, lane: Lane, shared: int, service: int) -> Iterator[Step]:
        """A batch of any length asks an effect and never commits: its worker died, froze, or lost the lane."""
        if not self._dancers.services[service].answering:
            return
        seen: set[tuple[int, int]] = set()
        todo: list[tuple[Lane, int, tuple[Move, ...]]] = [(lane, shared, ())]
        while todo:
            ahead, common, path = todo.pop()
            for move in self._hearable(ahead, service):
                if self._waits(ahead, move):
                    continue
                try:
                    followed = self._follows(ahead, common, move)
                    step = self._committed(ahead, move, followed)
                except Broken:
                    continue  # told where the service gets there with batches that commit
                for world, effect in followed.asked:
                    if (world, effect) not in seen:
                        seen.add((world, effect))
                        yield from self._lose(lane, shared, service, world, effect, (*path, move))
                todo.append((step.lane, step.shared, (*path, move)))

    def _lose(
        self, lane: Lane, shared: int, service: int, world: int, effect: int, path: tuple[Move, ...]
    ) -> Iterator[Step]:
        part = lane.parts[service]._replace(world=world)
        lost = self._flying(lane._replace(parts=_with(lane.parts, service, part)), service, effect)
        if lost != lane:
            yield Step(Move("lose", service, effect, path=path), lost, shared)

    def _landed(self, lane: Lane, shared: int, service: int, effect: int) -> Step:
        part = lane.parts[service]
        part = part._replace(world=self._dancers.land(service, effect, part.world))
        lane = self._flying(lane._replace(parts=_with(lane.parts, service, part)), service)
        return Step(Move("land", service, effect), lane, shared)

    def _flying(self, lane: Lane, service: int, *more: int) -> Lane:
        """With more effects under way; without those that can change nothing any more, as if they had arrived."""
        part = lane.parts[service]
        flying = tuple(
            effect
            for effect in sorted({*part.flying, *more})
            if not self._dancers.is_inert(service, lane.key, effect, part.world)
        )
        return lane._replace(parts=_with(lane.parts, service, part._replace(flying=flying)))

    # -- few states ----------------------------------------------------------------------------------------------------

    def _settled(self, lane: Lane) -> Lane:
        """Count from what everybody has heard: drop those facts, and lower all clocks by their number."""
        bases = [self._base(lane, speaker) for speaker in range(len(lane.parts))]
        if not any(bases):
            return lane

        def lowered(clock: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(max(0, known - base) for known, base in zip(clock, bases, strict=True))

        parts = tuple(
            part._replace(
                clock=lowered(part.clock),
                said=tuple((fact, lowered(carried)) for fact, carried in part.said[base:]),
            )
            for part, base in zip(lane.parts, bases, strict=True)
        )
        return lane._replace(parts=parts)

    def _base(self, lane: Lane, speaker: int) -> int:
        """How many of the speaker's facts nobody has still to hear."""
        said = lane.parts[speaker].said
        for number, (fact, _) in enumerate(said):
            for listener in self._listeners[speaker]:
                if lane.parts[listener].clock[speaker] <= number and self._dancers.moves(listener, speaker, fact):
                    return number
        return len(said)


def _with(parts: tuple[Part, ...], service: int, part: Part) -> tuple[Part, ...]:
    return (*parts[:service], part, *parts[service + 1 :])

