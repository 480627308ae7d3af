"""The rule by which facts are heard: each once, in its speaker's order, after its causes, whatever comes when."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.kit.clock import Clock, Verdict, hear, judge

SPEAKERS = 4
Rule = Callable[[Mapping[str, int], Collection[str], str, int, Mapping[str, int]], Verdict]


class Said(NamedTuple):
    """A fact: who said it as which one, the clock that it carries, and what it depends on in truth."""

    speaker: str
    sequence: int
    clock: Clock
    causes: frozenset[tuple[str, int]]


@dataclass
class Listener:
    """One service that says facts and hears others, by `rule`."""

    name: str
    hears: frozenset[str]
    rule: Rule
    clock: Clock = field(default_factory=dict)
    heard: list[Said] = field(default_factory=list)
    past: frozenset[tuple[str, int]] = frozenset()

    def say(self) -> Said:
        sequence = self.clock[self.name] = self.clock.get(self.name, 0) + 1
        carried = {who: known for who, known in self.clock.items() if who != self.name}
        said = Said(self.name, sequence, carried, self.past)
        self.past |= {(self.name, sequence)}
        return said

    def offer(self, said: Said) -> bool:
        """A record comes. What must wait, or seems to be missing something, comes again later."""
        if self.rule(self.clock, self.hears, said.speaker, said.sequence, said.clock) is not Verdict.NEXT:
            return False
        hear(self.clock, {*self.hears, self.name}, said.speaker, said.sequence, said.clock)
        self.heard.append(said)
        self.past |= said.causes | {(said.speaker, said.sequence)}
        return True


Happening = tuple[int, int, int]
"""Who says something (when the first two are one), or is offered a fact of whom: the next one, one that was heard
before (below 0), or one that overtook others (above 0)."""

speakers = st.integers(0, SPEAKERS - 1)
happenings = st.lists(st.tuples(speakers, speakers, st.sampled_from([0, 0, 0, -1, 1, 2])), min_size=8, max_size=50)
hearings = st.lists(st.sets(speakers, min_size=2), min_size=SPEAKERS, max_size=SPEAKERS)


def dance(rule: Rule, hearings: Sequence[Collection[int]], happenings: Sequence[Happening]) -> None:
    """Let it happen, then offer everything to everybody, in turn, until nobody hears anything more."""
    logs: list[list[Said]] = [[] for _ in range(SPEAKERS)]
    listeners = [
        Listener(f"s{own}", frozenset(f"s{other}" for other in others if other != own), rule)
        for own, others in enumerate(hearings)
    ]
    for who, whom, beside in happenings:
        next_one = listeners[who].clock.get(f"s{whom}", 0) + beside
        if who == whom:
            logs[who].append(listeners[who].say())
        elif whom in hearings[who] and 0 <= next_one < len(logs[whom]):
            listeners[who].offer(logs[whom][next_one])
    everything = [said for log in logs for said in log]
    # In each round somebody hears at least one more fact, so there are no more rounds than facts to hear.
    for _ in range(SPEAKERS * len(everything)):
        offers = [each.offer(said) for each in listeners for said in everything if said.speaker in each.hears]
        if not any(offers):
            break
    for listener in listeners:
        check(listener, [said for said in everything if said.speaker in listener.hears])


def check(listener: Listener, told: Sequence[Said]) -> None:
    ids = [(said.speaker, said.sequence) for said in listener.heard]
    assert len(ids) == len(set(ids)), "heard twice"
    assert set(ids) == {(said.speaker, said.sequence) for said in told}, "missed"
    done: set[tuple[str, int]] = set()
    last: dict[str, int] = {}
    for said in listener.heard:
        assert said.sequence == last.get(said.speaker, 0) + 1, "out of order"
        last[said.speaker] = said.sequence
        early = {cause for cause in said.causes if cause[0] in listener.hears} - done
        assert not early, "heard before its causes"
        done.add((said.speaker, said.sequence))


def above_will_do(
    clock: Mapping[str, int], hears: Collection[str], speaker: str, sequence: int, heard: Clock
) -> Verdict:
    """Planted: any fact above the last one counts as the next one."""
    last = clock.get(speaker, 0)
    return judge({**clock, speaker: sequence - 1} if sequence > last else clock, hears, speaker, sequence, heard)


def never_wait(clock: Mapping[str, int], hears: Collection[str], speaker: str, sequence: int, heard: Clock) -> Verdict:
    """Planted: causes are not waited for."""
    return judge(clock, hears, speaker, sequence, {})


def never_known(clock: Mapping[str, int], hears: Collection[str], speaker: str, sequence: int, heard: Clock) -> Verdict:
    """Planted: what was heard before is heard again."""
    return judge({**clock, speaker: sequence - 1}, hears, speaker, sequence, heard)


def holds_for_any_dance(rule: Rule) -> None:
    @settings(max_examples=150, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(hearings, happenings)
    def dances(hearings: Sequence[Collection[int]], happenings: Sequence[Happening]) -> None:
        dance(rule, hearings, happenings)

    dances()


def test_every_fact_is_heard_once_in_its_speakers_order_and_after_its_causes() -> None:
    holds_for_any_dance(judge)


@pytest.mark.parametrize(
    ("planted", "broken"),
    [(above_will_do, "missed|out of order"), (never_wait, "before its causes"), (never_known, "out of order|twice")],
)
def test_a_rule_that_is_looser_in_any_part_breaks_the_promise(planted: Rule, broken: str) -> None:
    with pytest.raises(AssertionError, match=broken):
        holds_for_any_dance(planted)


def test_knowledge_passes_through_speakers_that_are_not_heard() -> None:
    """c hears a and b, not m. b heard m, which heard a: so b's fact waits for a's, though b never heard a."""
    clock: Clock = {}
    said_by_b = {"m": 1, "a": 1}
    assert judge(clock, {"a", "b"}, "b", 1, said_by_b) is Verdict.EARLY
    hear(clock, {"a", "b", "c"}, "a", 1, {})
    assert judge(clock, {"a", "b"}, "b", 1, said_by_b) is Verdict.NEXT
    hear(clock, {"a", "b", "c"}, "b", 1, said_by_b)
    assert clock == {"a": 1, "b": 1, "m": 1}


def test_a_fact_above_the_next_one_is_a_gap_even_when_its_causes_are_missing_too() -> None:
    assert judge({"a": 1}, {"a", "b"}, "a", 3, {"b": 9}) is Verdict.GAP


def test_what_others_knew_of_me_is_not_taken_for_my_own() -> None:
    clock: Clock = {"me": 2}
    hear(clock, {"a", "me"}, "a", 1, {"me": 5})
    assert clock == {"me": 2, "a": 1}


def test_what_was_known_of_the_unheard_never_shrinks() -> None:
    clock: Clock = {"m": 7}
    hear(clock, {"a", "me"}, "a", 1, {"m": 3})
    assert clock["m"] == 7
