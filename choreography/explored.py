"""Which scenarios are walked, and what they show together: promises kept, and every declared reaction reached."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, NamedTuple, get_args, get_type_hints

from choreography.exploring import Explorer, Walked
from choreography.scenarios import CUSTOMERS, Scenario
from choreography.story import as_test, told
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


def one_order(services: Sequence[Service]) -> Iterator[Explored]:
    """One order of every kind of customer, with every fault."""
    for customer in CUSTOMERS:
        yield explore(services, (customer,))


def two_orders(services: Sequence[Service]) -> Iterator[Explored]:
    """Two orders over one last item: every pair of customers, with every fault."""
    for pair in combinations_with_replacement(CONTENDERS, 2):
        yield explore(services, pair)


def explore(
    services: Iterable[Service],
    customers: tuple[str, ...],
    *,
    faults: bool = True,
    world: Mapping[str, Script[Any]] | None = None,
) -> Explored:
    """Walk the orders of these customers (of `CUSTOMERS`)."""
    scenario = Scenario(services, [CUSTOMERS[customer] for customer in customers], world)
    walked = Explorer(scenario, faults=faults).walk()
    story = tuple(told(scenario, walked.violation)) if walked.violation else ()
    return Explored(customers, faults, walked, story)


def examples(services: Sequence[Service]) -> dict[tuple[str, str], Fact]:
    """By service and name: a fact that its own decision says in one of these walks, each time the same."""
    found: dict[tuple[str, str], Fact] = {}
    for customer in CUSTOMERS.values():
        scenario = Scenario(services, [customer])
        Explorer(scenario, faults=False).walk()
        for fact in scenario.dancers.facts():
            owner = next(service.name for service in services if type(fact) in service.says.values())
            found.setdefault((owner, type(fact).__name__), fact)
    return found


def unreached(services: Iterable[Service], explored: Iterable[Explored]) -> list[str]:
    """What is declared and never happened in any of these walks: dead code, or a scenario that is missing."""
    reached = {each for one in explored for each in one.walked.reached}
    return [
        f"{service.name}: {what}"
        for service in services
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


def report(explored: Iterable[Explored], services: Sequence[Service]) -> int:
    """Print what was walked as it comes, and what is wrong; the exit code."""
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
    dead = unreached(services, rows)
    for what in dead:
        write(f"  never reached: {what}\n")
    write("  All promises hold, and every reaction was reached.\n" if not broken and not dead else "")
    return 1 if broken or dead else 0
