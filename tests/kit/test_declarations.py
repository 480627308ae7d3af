"""A service that contradicts itself is refused when its module is imported, with the place and the words."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from streams.kit.errors import WrongDeclaration
from streams.kit.events import Due, Effect, Event, Fact, Heard, Request, State
from streams.kit.service import Reads, Said, Service
from tests.kit.counter import added, declared, view
from tests.kit.counter_events import Added, Count, Expired, Ring, Rung, Total

HEARD = view("left", Added)


class Elsewhere(State, table="elsewhere", key="id"):
    """A state that the service does not declare."""

    id: str


def decide(count: Count, event: Any) -> Iterator[Said]:
    yield Added(counter=count.counter, amount=1)


def decide_elsewhere(row: Elsewhere, event: Any) -> None:
    return None


def without_a_state(event: Any) -> None:
    return None


def without_parameters() -> None:
    return None


def answer(count: Count, answer: Rung) -> None:
    return None


def total_added(total: Total, fact: Any) -> Total:
    return total


def made(**options: Any) -> Service:
    return Service("made", **{"states": [Count], "says": [Added], **options})


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "reacts twice to one event": (
        lambda: reacts_twice(made()),
        "decide: made already reacts to Added",
    ),
    "a view without a topic": (
        lambda: made().hears(view("", Added))(decide),
        'decide: Added names no topic: write topic="..."',
    ),
    "a decision about no state": (
        lambda: made().hears(HEARD)(without_a_state),
        "without_a_state: the first parameter must be annotated with a State",
    ),
    "a decision without parameters": (
        lambda: made().hears(HEARD)(without_parameters),
        "without_parameters: the first parameter must be annotated with a State",
    ),
    "a decision about an undeclared state": (
        lambda: made().hears(HEARD)(decide_elsewhere),
        "decide_elsewhere: Elsewhere is not among made's states",
    ),
    "reading an undeclared state": (
        lambda: made().hears(HEARD, reads=Reads(Elsewhere, lambda event: ()))(decide),
        "decide: Elsewhere is not among made's states",
    ),
    "a deadline of a state without one": (
        lambda: Service("made", states=[Elsewhere]).due(decide_elsewhere),
        "decide_elsewhere: Elsewhere needs the fields 'due_at' and 'partition'",
    ),
    "an answer without a world": (
        lambda: made().answers(Ring)(answer),
        "answer: made has no 'world' to ask for Ring",
    ),
    "folding what is never said": (
        lambda: made().evolves(Expired)(added),
        "added: made never says Expired",
    ),
    "saying what is never folded": (
        lambda: made().verify(),
        "made: says Added, but no 'evolves' folds it",
    ),
    "asking effects with shared rows": (
        lambda: asking_and_sharing().verify(),
        "made: asks effects and has shared rows",
    ),
}


def reacts_twice(service: Service) -> Service:
    service.hears(HEARD)(decide)
    service.hears(HEARD)(decide)
    return service


def asking_and_sharing() -> Service:
    service = made(states=[Count, Total], world=lambda: None)
    service.answers(Ring)(answer)
    service.evolves(Added)(added)
    return service


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_declaration_is_refused_and_told(what: str) -> None:
    declare, words = WRONG[what]
    with pytest.raises(WrongDeclaration) as refused:
        declare()
    assert words in str(refused.value)


def test_a_service_is_read_from_its_declarations() -> None:
    service = made(says=[Added, Expired], world=lambda: None)
    service.hears(HEARD)(decide)
    service.hears(view("a.requests", Added))(decide)
    service.due(decide)
    service.evolves(Added, Expired)(added)
    assert service.verify() is service
    assert service.topics == ("a.requests", "left")
    assert [heard.topic for heard in service.views] == ["left", "a.requests"]
    assert (service.is_projection, service.shares, service.timed) == (False, False, (Count,))


def test_a_projection_hears_what_it_folds() -> None:
    projection = Service("view", states=[Total])
    projection.evolves(HEARD, key=lambda fact: "all")(total_added)
    assert projection.verify().topics == ("left",)
    assert (projection.is_projection, projection.shares, projection.timed) == (True, True, ())


def test_a_service_decides_answers_and_evolves_outside_of_any_worker() -> None:
    service = made(world=lambda: None)
    service.hears(HEARD)(decide)
    service.answers(Ring)(answer)
    service.evolves(Added)(added)
    count = Count(counter="a")
    said = service.decide(count, HEARD(counter="a", amount=1, note="", into=""))
    assert said == (Added(counter="a", amount=1),)
    assert service.answer(count, Ring(bell="a"), Rung(number=1)) == ()
    assert service.evolve(count, Added(counter="a", amount=5)) == Count(counter="a", total=5, facts=1)
    assert service.evolve(Total(name="all"), Added(counter="a", amount=5)) == Total(name="all")


# -- events ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Fact, "say what the fact is about"), (Request, "the request is about"), (Effect, "could happen twice")],
)
def test_what_has_no_key_is_told_when_it_is_asked_for(kind: type[Event], words: str) -> None:
    keyless: Any = declared(kind, "Keyless", {})
    with pytest.raises(TypeError, match=f"Keyless defines no 'key'.*{words}"):
        keyless().key  # noqa: B018


@pytest.mark.parametrize("base", [Fact, Heard, State, Due])
def test_an_unknown_class_argument_is_refused(base: type[Event]) -> None:
    with pytest.raises(TypeError, match="'colour' is not something a"):
        declared(base, "Wrong", {}, colour="red")


def test_events_are_frozen_and_compared_by_value() -> None:
    one: Any = Added(counter="a", amount=1)
    assert one == Added(counter="a", amount=1)
    with pytest.raises(AttributeError):
        one.amount = 2
    with pytest.raises(TypeError):
        type(one)("a", 1)


def test_a_new_row_knows_its_key_and_where_it_has_one_its_partition() -> None:
    assert Count.new("a", 3) == Count(counter="a", partition=3)
    assert Total.new("all", 3) == Total(name="all")
    assert (Count.new("a").row_key, Count(counter="a", due_at=datetime.min).due_at) == ("a", datetime.min)
