"""Every causally possible interleaving of one or more orders, breadth first: the first violation is the shortest.

States are compared by value and never walked twice. Within one order nothing is left out. Orders meet only in shared
rows (stock), so what they do commutes unless one reads what the other changes. That allows three shortcuts, which keep
every end (persistent sets: Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996):

- If no order can disturb another any more, each is walked on alone, with the rest as it is: shared rows are sums.
- If every order that may still touch shared rows can do so right now, only those touches are tried, in every order.
- If nothing that others may still do disturbs what an order can do now, only that order moves.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from choreography.lanes import Lane, Move, Step
from choreography.scenarios import Scenario

OUTSIDE = ("ask",)


class Violation(NamedTuple):
    """A promise that a trace breaks: which, and the shortest way there; each move with the order that it is about."""

    what: str
    trace: tuple[tuple[int, Move], ...]


class Walked(NamedTuple):
    """How far the explorer came. `ends`: states in which nothing more happens by itself. `seconds`: of CPU."""

    states: int
    transitions: int
    ends: int
    seconds: float
    violation: Violation | None
    reached: frozenset[tuple[str, str]]


Together: TypeAlias = tuple[int, ...]
"""The lanes of all orders, and the shared rows."""


class Alone(NamedTuple):
    """One order that nobody can disturb any more. `others`: what the other orders have of shared rows."""

    order: int
    lane: int
    shared: int
    others: tuple[int, ...]


State: TypeAlias = Together | Alone
Parents: TypeAlias = dict[State, tuple[State, int, Move | None] | None]


class _Next(NamedTuple):
    move: Move
    lane: int
    shared: int
    reads: bool
    touches: bool
    broken: str


class Explorer:
    """Walks one scenario. `faults`: whether batches are lost and the world does not answer."""

    def __init__(self, scenario: Scenario, *, faults: bool = True) -> None:
        self._scenario = scenario
        self._faults = faults
        self._lanes: list[Lane] = []
        self._numbers: dict[Lane, int] = {}
        self._next: dict[tuple[int, int], tuple[_Next, ...]] = {}
        self._may: dict[tuple[int, bool], bool] = {}
        self._parents: Parents = {}
        self._arrows: list[tuple[State, State]] = []
        self._ends: list[State] = []
        self.transitions = 0

    def walk(self) -> Walked:
        """From the start to all ends, or to the first violation.

        With faults it walks once without them before: it must know what is asked of the world, to tell which late
        effects can change nothing any more.
        """
        began = time.process_time()
        violation = Explorer(self._scenario, faults=False).walk().violation if self._faults else None
        while violation is None:
            known = self._scenario.dancers.effect_count
            violation = self._walk()
            if self._scenario.dancers.effect_count == known:
                break
        states, ends = len(self._parents), len(self._ends)
        reached = frozenset(self._scenario.dancers.reached)
        return Walked(states, self.transitions, ends, time.process_time() - began, violation, reached)

    def _walk(self) -> Violation | None:
        start: State = (*map(self._number, self._scenario.start), self._scenario.shared)
        self._parents, self._arrows, self._ends, self.transitions = {start: None}, [], [], 0
        self._next.clear()
        self._may.clear()
        to_walk = deque([start])
        while to_walk:
            state = to_walk.popleft()
            for order, move, after, broken in self._after(state):
                self.transitions += 1
                if broken:
                    assert move is not None
                    return Violation(broken, (*self._trace(state), (order, move)))
                if after not in self._parents:
                    self._parents[after] = (state, order, move)
                    to_walk.append(after)
                    shared = after.shared if isinstance(after, Alone) else after[-1]
                    if wrong := self._scenario.always(shared):
                        return Violation(wrong, self._trace(after))
                if self._is_one and after != state:
                    self._arrows.append((after, state))
            if self._is_forgotten(state):
                return Violation("nothing but its deadline can end the order any more", self._trace(state))
            if self._is_end(state):
                self._ends.append(state)
                if wrong := self._wrong_end(state):
                    return Violation(wrong, self._trace(state))
        if self._is_one and (lost := self._endless()):
            return Violation("from here on the order never ends", self._trace(lost))
        return None

    @property
    def _is_one(self) -> bool:
        return len(self._scenario.start) == 1

    # -- what comes after a state --------------------------------------------------------------------------------------

    def _after(self, state: State) -> Iterator[tuple[int, Move | None, State, str]]:
        if isinstance(state, Alone):
            for step in self._steps(state.lane, state.shared):
                yield state.order, step.move, state._replace(lane=step.lane, shared=step.shared), step.broken
        elif not self._is_one and not self._meet(state):
            for order, lane in enumerate(state[:-1]):
                yield order, None, Alone(order, lane, state[-1], self._others(state, order)), ""
        else:
            for order, step in self._enough(state):
                after = (*state[:order], step.lane, *state[order + 1 : -1], step.shared)
                yield order, step.move, after, step.broken

    def _meet(self, state: Together) -> bool:
        """Some order may still read what another one may still touch."""
        orders = range(len(state) - 1)
        return any(
            self._may_still(state[one], state[-1], reads=True) and self._may_still(state[other], state[-1], reads=False)
            for one in orders
            for other in orders
            if one != other
        )

    def _enough(self, state: Together) -> list[tuple[int, _Next]]:
        """Steps that are enough to reach every end."""
        each = [self._steps(lane, state[-1]) for lane in state[:-1]]
        everything = [(order, step) for order, steps in enumerate(each) for step in steps]
        if self._is_one:
            return everything
        touching = [(order, step) for order, step in everything if step.touches]
        may_touch = {order for order, lane in enumerate(state[:-1]) if self._may_still(lane, state[-1], reads=False)}
        if touching and {order for order, _ in touching} >= may_touch and all(self._is_next(s) for _, s in touching):
            return touching
        for order, steps in enumerate(each):
            if steps and self._is_undisturbed(order, steps, state):
                return [(order, step) for step in steps]
        return everything

    def _is_next(self, step: _Next) -> bool:
        """Nothing else can come to the service before it: it has one speaker, and asks and awaits nothing."""
        return step.move.what == "hear" and self._scenario.dancers.has_one_speaker(step.move.service)

    def _is_undisturbed(self, order: int, steps: tuple[_Next, ...], state: Together) -> bool:
        """Nothing that other orders may still do disturbs one of these steps."""
        others = [lane for other, lane in enumerate(state[:-1]) if other != order]
        reads, touches = any(step.reads for step in steps), any(step.touches for step in steps)
        return not (
            (reads and any(self._may_still(lane, state[-1], reads=False) for lane in others))
            or (touches and any(self._may_still(lane, state[-1], reads=True) for lane in others))
        )

    def _may_still(self, lane: int, shared: int, *, reads: bool) -> bool:
        """May this order still read, or else read or change, shared rows? What it may do does not depend on them."""
        known = self._may.get((lane, reads))
        if known is not None:
            return known
        seen, todo = {(lane, shared)}, [(lane, shared)]
        while todo:
            for step in self._steps(*todo.pop()):
                if step.reads if reads else step.touches:
                    self._may[lane, reads] = True
                    return True
                if (step.lane, step.shared) not in seen:
                    seen.add((step.lane, step.shared))
                    todo.append((step.lane, step.shared))
        self._may.update({(each, reads): False for each, _ in seen})
        return False

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _is_end(self, state: State) -> bool:
        if isinstance(state, Alone):
            return self._is_quiet(state.lane, state.shared)
        return all(self._is_quiet(lane, state[-1]) for lane in state[:-1])

    def _is_forgotten(self, state: State) -> bool:
        """Of some order nothing goes on, and it has not ended: somebody did not react to what was said."""
        lanes, shared = ([state.lane], state.shared) if isinstance(state, Alone) else (state[:-1], state[-1])
        return any(
            not self._is_quiet(lane, shared)
            and all(
                step.move.what in (*OUTSIDE, "due") or (step.lane, step.shared) == (lane, shared)
                for step in self._steps(lane, shared)
            )
            for lane in lanes
        )

    def _is_quiet(self, lane: int, shared: int) -> bool:
        """Nothing happens to this order any more, unless somebody outside asks something."""
        steps = self._steps(lane, shared)
        return all(step.move.what in OUTSIDE or (step.lane, step.shared) == (lane, shared) for step in steps)

    def _wrong_end(self, state: State) -> str:
        if isinstance(state, Alone):
            return self._scenario.at_end([self._lanes[state.lane]], state.shared, state.others)
        return self._scenario.at_end([self._lanes[each] for each in state[:-1]], state[-1])

    def _others(self, state: Together, order: int) -> tuple[int, ...]:
        return tuple(
            rows
            for other, lane in enumerate(state[:-1])
            if other != order
            for rows in self._scenario.rows_beside_shared(self._lanes[lane])
        )

    def _endless(self) -> State | None:
        """The first state from which no end can be reached."""
        before: dict[State, list[State]] = {}
        for after, state in self._arrows:
            before.setdefault(after, []).append(state)
        seen, todo = set(self._ends), list(self._ends)
        while todo:
            for state in before.get(todo.pop(), ()):
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
        return next((state for state in self._parents if state not in seen), None)

    def _trace(self, state: State) -> tuple[tuple[int, Move], ...]:
        trace: list[tuple[int, Move]] = []
        while (parent := self._parents[state]) is not None:
            state, order, move = parent
            if move is not None:
                trace.append((order, move))
        return tuple(reversed(trace))

    # -- lanes as numbers ----------------------------------------------------------------------------------------------

    def _steps(self, lane: int, shared: int) -> tuple[_Next, ...]:
        place = (lane, shared)
        found = self._next.get(place)
        if found is None:
            steps = self._scenario.lanes.steps(self._lanes[lane], shared, faults=self._faults)
            found = self._next[place] = tuple(map(self._numbered, steps))
        return found

    def _numbered(self, step: Step) -> _Next:
        touches = step.reads or step.writes
        return _Next(step.move, self._number(step.lane), step.shared, step.reads, touches, step.broken)

    def _number(self, lane: Lane) -> int:
        number = self._numbers.get(lane)
        if number is None:
            number = self._numbers[lane] = len(self._lanes)
            self._lanes.append(lane)
        return number
