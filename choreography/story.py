"""A trace of the explorer for people: as a story, as a test to paste, and played again from its words."""

from collections.abc import Iterable, Sequence

from choreography.exploring import Violation
from choreography.lanes import Lane, Move, Step
from choreography.scenarios import CUSTOMERS, Scenario
from streams.kit.service import Service

SAYS = " -> "


class Player:
    """Plays moves one after the other. `wrong`: the first promise that was broken; empty if none was."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.lanes: list[Lane] = list(scenario.start)
        self.shared = scenario.shared
        self.wrong = ""

    def steps(self, order: int) -> dict[str, Step]:
        """What can happen next to the order, by its words."""
        steps = self._scenario.lanes.steps(self.lanes[order], self.shared)
        return {words(self._scenario, step.move): step for step in steps}

    def play(self, order: int, told: str) -> str:
        """Make this move; what it says. Raises `LookupError` when it cannot happen now."""
        steps = self.steps(order)
        if told not in steps:
            raise LookupError(f"cannot happen here: {told!r}. What can: {', '.join(map(repr, steps))}")
        step = steps[told]
        new = step.lane.told - self.lanes[order].told
        self.lanes[order], self.shared = step.lane, step.shared
        self.wrong = self.wrong or step.broken or self._scenario.always(step.shared)
        return ", ".join(self._scenario.dancers.name_of(fact) for fact in sorted(new))

    def end(self) -> str:
        """What is wrong, should nothing more happen."""
        return self.wrong or self._scenario.at_end(self.lanes, self.shared)


def words(scenario: Scenario, move: Move) -> str:
    """One move in words, by which it can be played again."""
    dancers = scenario.dancers
    who, what = dancers.names[move.service], dancers.name_of(move.event)
    source = f"hears {what} of {dancers.names[move.speaker]}" if move.speaker >= 0 else f"is asked {what}"
    match move.what:
        case "retry":
            return f"{who} tries {what} again"
        case "due":
            return f"{who} sees the deadline pass"
        case "park":
            return f"{who} {source}, and gets no answer"
        case "late":
            return f"{who} {source}, and gets no answer; the question is still under way"
        case "lose":
            heard = ", ".join(dancers.name_of(each.event) for each in move.path)
            return f"{who} asks {what} in a batch that is lost, after {heard}; the question is still under way"
        case "land":
            return f"{what} of a lost batch of {who} arrives"
    return f"{who} {source}"


def told(scenario: Scenario, violation: Violation) -> list[str]:
    """The trace as a story, a line a move, with what was said."""
    player = Player(scenario)
    lines = []
    for order, move in violation.trace:
        line = words(scenario, move)
        said = player.play(order, line)
        number = f"order {order + 1}: " if len(player.lanes) > 1 else ""
        lines.append(f"{number}{line}{SAYS}{said}" if said else f"{number}{line}")
    return lines


def as_test(customers: Sequence[str], lines: Iterable[str]) -> str:
    """A test that plays the trace, to be pasted into tests/choreography/test_traces.py."""
    trace = "\n".join(f"        {line}" for line in lines)
    names = ", ".join(f'"{customer}"' for customer in customers)
    return (
        "def test_a_trace_that_the_explorer_found() -> None:\n"
        f'    wrong = replay(services(), [{names}], """\n{trace}\n    """)\n\n    assert not wrong, wrong\n'
    )


def replay(services: Iterable[Service], customers: Sequence[str], trace: str) -> str:
    """Play a story again; what is wrong at its end, or empty."""
    player = Player(Scenario(services, [CUSTOMERS[customer] for customer in customers]))
    for line in filter(None, map(str.strip, trace.splitlines())):
        order, _, rest = line.rpartition(": ")
        player.play(int(order.removeprefix("order ")) - 1 if order else 0, rest.partition(SAYS)[0])
        if player.wrong:
            return player.wrong
    return player.end()
