"""The explorer's model of the worker is the worker: random traces of the model, played on the real one, agree.

After every move the rows, what was said, what is parked and what the world knows are equal, and for every service and
speaker the real lane would hear the next fact exactly if the model says so. `SEEDS=200` tries more.
"""

import os
import random
from collections import Counter

import pytest

from choreography.lanes import Lane, Move
from choreography.scenarios import CUSTOMERS, Scenario
from contracts.views import services
from streams.kit.codec import Codec
from streams.kit.language import Language
from tests.choreography.desk import Desk, Ids, requested, said

SEEDS = int(os.environ.get("SEEDS", "12"))
FIRST = int(os.environ.get("SEED", "0"))
MOST_MOVES = 60


class Both:
    """One scenario, in the model and on real workers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.customer = self.random.choice(list(CUSTOMERS))
        self.scenario = Scenario(services(), [CUSTOMERS[self.customer]])
        self.lane: Lane = self.scenario.start[0]
        self.shared = self.scenario.shared
        self.codec = Codec(Language.load(), Ids())
        self.happened: Counter[str] = Counter()

    async def prepare(self) -> None:
        dancers = self.scenario.dancers
        self.logs = {topic: [] for service in dancers.services for topic in (service.name, *service.topics)}
        for service in dancers.services:
            await self.codec.prepare(service.name, service.says.values())
        self.desks = [Desk(self.scenario, number, self.logs, self.codec) for number in range(len(dancers.services))]

    async def move(self) -> bool:
        """Make one random move on both. False: nothing can happen any more."""
        steps = [step for step in self.scenario.lanes.steps(self.lane, self.shared) if _is_plain(step.move)]
        news = [step for step in steps if (step.lane, step.shared) != (self.lane, self.shared)]
        if not news:
            return False
        step = self.random.choice(news)
        desk = self.desks[step.move.service]
        if self.random.random() < 0.2:
            desk.restart()
            self.happened["restart"] += 1
        await self._make(step.move, desk)
        self.lane, self.shared = step.lane, step.shared
        self.happened[step.move.what] += 1
        return True

    async def _make(self, move: Move, desk: Desk) -> None:
        dancers = self.scenario.dancers
        if move.what == "land":
            desk.world = dancers.land(move.service, move.event, desk.world)
            return
        heard = move.path[0] if move.path else move
        event = dancers.values[heard.event]
        topic = dancers.names[heard.speaker] if heard.speaker >= 0 else "orders.requests"
        if move.what == "ask":
            await requested(self.codec, self.logs, event)
        if move.path and heard.what in ("retry", "due"):
            return  # a retry that is lost asks the same as one that gets no answer; it is tried by the next retry
        await desk.make(move, dancers.name_of(heard.event), topic)

    def compare(self) -> None:
        """Everything that both know is equal."""
        dancers = self.scenario.dancers
        for part, desk in zip(self.lane.parts, self.desks, strict=True):
            name = desk.service.name
            model = [*dancers.values[part.rows], *self._shared_rows(desk)]
            assert _by_place(model) == _by_place(desk.rows.values()), name
            assert part.world == desk.world, name
            assert len(part.parked) == len(desk.waiting), name
        told = Counter(dancers.name_of(fact) for fact in self.lane.told)
        assert told == said(self.logs, self.codec, dancers.names)
        self._compare_what_may_be_heard()

    def _compare_what_may_be_heard(self) -> None:
        dancers = self.scenario.dancers
        moves = list(self.scenario.lanes.hearable(self.lane))
        for listener, desk in enumerate(self.desks):
            for speaker, topic in enumerate(dancers.names):
                model = [m for m in moves if (m.service, m.speaker) == (listener, speaker)]
                following = [
                    name
                    for name in (self.codec.name_of(record.value) for record in self._unheard(desk, topic))
                    if (topic, name) in {(view.topic, view.__name__) for view in desk.service.views}
                ]
                real = bool(following) and bool(desk.least(topic, following[0]))
                assert real == bool(model), f"{desk.service.name} hears {following[:1]} of {topic}: {real}"

    def _unheard(self, desk: Desk, topic: str) -> list:  # type: ignore[type-arg]
        if topic not in desk.service.topics:
            return []
        return self.logs[topic][desk.holding.positions.get(topic, 0) :]

    def _shared_rows(self, desk: Desk) -> list:  # type: ignore[type-arg]
        values = self.scenario.dancers.values
        return [row for row in values[self.shared] if type(row) in desk.service.states]


def _is_plain(move: Move) -> bool:
    """One record a batch: what a longer one asks before it is lost depends on how the worker takes topics in turn."""
    return len(move.path) <= 1


def _by_place(rows) -> dict:  # type: ignore[no-untyped-def, type-arg]
    return {(row.table, row.row_key): row for row in rows}


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
async def test_a_random_trace_goes_the_same_way_on_the_real_worker(seed: int) -> None:
    both = Both(seed)
    await both.prepare()

    for number in range(MOST_MOVES):
        if not await both.move():
            break
        try:
            both.compare()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {both.customer}, move {number + 1}: {error}") from error


async def test_the_traces_show_every_kind_of_move() -> None:
    happened: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + 12):
        both = Both(seed)
        await both.prepare()
        while sum(both.happened.values()) < MOST_MOVES and await both.move():
            pass
        happened += both.happened

    assert happened.keys() >= {"ask", "hear", "due", "park", "late", "lose", "land", "retry", "restart"}
