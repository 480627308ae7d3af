"""Which scenarios are walked, and what they show together: promises kept, and every declared reaction reached."""

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations_with_replacement
from typing import Any, NamedTuple, get_args, get_type_hints

from choreography.exploring import Explorer, Walked
from choreography.scenarios import CUSTOMERS, Scenario
from choreography.story import as_test, told
from contracts.views import services
from streams.kit.events import Fact
from streams.kit.service import Service
from streams.kit.simulation import Script

#: Who orders the last item together.
CONTENDERS = ("pays", "is declined", "is declined at capture", "lives where no carrier goes")


class Explored(NamedTuple):
    """One scenario walked: who ordered, how far it came, and the story and test of a violation."""

    customers: tuple[str, ...]
    faults: bool
    walked: Walked
    story: tuple[str, ...] = ()

    @property
    def test(self) -> str:
        """A test to paste that plays the violation."""
        return as_test(self.customers, self.story)


def walks(*, two: bool) -> list[tuple[str, ...]]:
    """Whose orders: one of every kind of customer; `two`: also every pair over one last item."""
    return [*((each,) for each in CUSTOMERS), *(combinations_with_replacement(CONTENDERS, 2) if two else ())]


def explore_all(whose: Sequence[tuple[str, ...]]) -> Iterator[Explored]:
    """Walk these orders with all services and every fault, side by side on all cores; told in this order."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(min(cores, len(whose)), initializer=_ends_when_interrupted) as pool:
        yield from pool.map(_explore, whose)


def _explore(customers: tuple[str, ...]) -> Explored:
    return explore(services(), customers)


def _ends_when_interrupted() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def explore(
    dancers: Iterable[Service],
    customers: tuple[str, ...],
    *,
    faults: bool = True,
    world: Mapping[str, Script[Any]] | None = None,
) -> Explored:
    """Walk the orders of these customers (of `CUSTOMERS`)."""
    scenario = Scenario(dancers, [CUSTOMERS[customer] for customer in customers], world)
    walked = Explorer(scenario, faults=faults).walk()
    story = tuple(told(scenario, walked.violation)) if walked.violation else ()
    return Explored(customers, faults, walked, story)


def examples(dancers: Sequence[Service]) -> dict[tuple[str, str], Fact]:
    """By service and name: a fact that its own decision says in one of these walks, each time the same."""
    found: dict[tuple[str, str], Fact] = {}
    for customer in CUSTOMERS.values():
        scenario = Scenario(dancers, [customer])
        Explorer(scenario, faults=False).walk()
        for fact in scenario.dancers.facts():
            owner = next(service.name for service in dancers if type(fact) in service.says.values())
            found.setdefault((owner, type(fact).__name__), fact)
    return found


def unreached(dancers: Iterable[Service], explored: Iterable[Explored]) -> list[str]:
    """What is declared and never happened in any of these walks: dead code, or a scenario that is missing."""
    reached = {each for one in explored for each in one.walked.reached}
    return [
        f"{service.name}: {what}"
        for service in dancers
        if not service.is_projection
        for what in _declared(service)
        if (service.name, what) not in reached
    ]


def _declared(service: Service) -> Iterator[str]:
    """Every reaction, every fact, and every answer to every effect."""
    yield from (heard.__name__ for heard in service.reactions)
    yield from service.says
    for effect, note in service.answering.items():
        hints = get_type_hints(note)
        answers = list(hints.values())[1]
        yield from (f"{effect.__name__}/{answer.__name__}" for answer in get_args(answers) or (answers,))


def report(explored: Iterable[Explored], dancers: Sequence[Service]) -> int:
    """Print what was walked as it comes, and what is wrong; the exit code. Seconds of a walk are of CPU."""
    began = time.monotonic()
    rows, broken = [], 0
    write = sys.stdout.write
    for one in explored:
        walked = one.walked
        rows.append(one)
        what = " and ".join(one.customers) + ("" if one.faults else " (without faults)")
        write(
            f"  {what:<58}{walked.states:>9,} states{walked.transitions:>11,} transitions{walked.ends:>6,} ends"
            f"{walked.seconds:>7.1f} s\n"
        )
        if walked.violation is not None:
            broken += 1
            write(f"\n  BROKEN: {walked.violation.what}\n\n")
            write("".join(f"    {number:>2}  {line}\n" for number, line in enumerate(one.story, 1)))
            write(f"\n  As a test for tests/choreography/test_traces.py:\n\n{one.test}\n")
    seconds = sum(one.walked.seconds for one in rows)
    states, transitions = (sum(each) for each in zip(*(one.walked[:2] for one in rows), strict=True))
    write(f"  {'together':<58}{states:>9,} states{transitions:>11,} transitions{'':>11}{seconds:>7.1f} s\n")
    write(f"  {time.monotonic() - began:.0f} s in all; those above are of CPU\n")
    dead = unreached(dancers, rows)
    for what in dead:
        write(f"  never reached: {what}\n")
    write("  All promises hold, and every reaction was reached.\n" if not broken and not dead else "")
    return 1 if broken or dead else 0
