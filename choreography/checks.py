"""What is wrong with a dance by its declarations alone: each finding says where it stands, and what to do.

A check that finds nothing proves nothing about what happens in which order: that is the explorer's to say.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from choreography.declared import Dance, Name, Reacts, where
from contracts.finding import Finding
from streams.kit.events import Due, Effect, Fact
from streams.kit.lane import REQUESTS
from streams.kit.language import Language


def check(dance: Dance, language: Language | None = None) -> list[Finding]:
    """Everything that is wrong, in the order of the checks; empty if nothing is."""
    found = [finding for each in CHECKS for finding in each(dance)]
    return found if language is None else [*found, *unknown_requests(dance, language)]


def one_writer(dance: Dance) -> Iterator[Finding]:
    """A topic has one writer: the service of its name."""
    names = [service.name for service in dance.services]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Finding(f"topic {name}", "has two writers: two services bear its name.", "Rename one of them.")


def undeclared(dance: Dance) -> Iterator[Finding]:
    """A service declares every fact that it says: of any other it has neither schema nor fold."""
    declared = {service.name: service.says.values() for service in dance.services}
    for reaction in dance.reactions:
        for fact in reaction.says:
            if fact not in declared[reaction.service]:
                what = f"{reaction.service} says {fact.__name__} here, which it does not declare."
                yield Finding(reaction.where, what, f"Add it to says=[...] of Service({reaction.service!r}).")


def unheard(dance: Dance) -> Iterator[Finding]:
    """A fact that nobody hears is said for nothing."""
    for event, fact in dance.facts.items():
        if not dance.hearing(event) and not dance.looking_on(event):
            remedy = "Let somebody react, let timeline tell it, or do not say it."
            yield Finding(where(fact), f"nobody hears {event[1]}.", remedy)


def unsaid(dance: Dance) -> Iterator[Finding]:
    """A reaction to what nobody says is dead code."""
    for reaction in dance.reactions:
        topic, name = reaction.name
        if not topic or topic.endswith(REQUESTS):
            continue
        if reaction.name not in dance.facts:
            known = ", ".join(each for owner, each in dance.facts if owner == topic) or "nothing"
            what = f"{reaction.service} reacts to {name}, which nobody says on {topic} ({known} is said there)."
            yield Finding(reaction.where, what, "Correct the view's topic or name, or remove the reaction.")
        elif not dance.saying(reaction.name):
            what = f"{reaction.service} reacts to {name}, which {topic} declares and no reaction of it says."
            yield Finding(reaction.where, what, f"Let {topic} say it, or remove it from both.")


def unknown_requests(dance: Dance, language: Language) -> Iterator[Finding]:
    """A request that is heard is part of the public language."""
    for reaction in dance.reactions:
        topic, name = reaction.name
        if topic.endswith(REQUESTS) and (topic not in language.topics or name not in language.names(topic)):
            what = f"{reaction.service} reacts to the request {name}, and schemas/{topic} has none of that name."
            yield Finding(reaction.where, what, f"Add schemas/{topic}/{name}.v1.avsc.")


def failures(dance: Dance) -> Iterator[Finding]:
    """Somebody reacts to every failure."""
    for event, fact in dance.facts.items():
        if fact.failure and not any(reaction.says for reaction in dance.hearing(event)):
            what = f"{event[1]} says that an order cannot go on, and nobody does anything about it."
            yield Finding(where(fact), what, "Let the service that ends orders hear it.")


def undone(dance: Dance) -> Iterator[Finding]:
    """Every forward step is taken back, whatever failed and whoever called the order off."""
    endings = [event for event, fact in dance.facts.items() if fact.failure]
    for event, fact in dance.facts.items():
        if not _goes_forward(dance, event, fact):
            continue
        undoing = {each for each, other in dance.facts.items() if fact in other.undoes}
        if not undoing:
            what = f"{event[1]} is a step that binds somebody, and no fact undoes it."
            yield Finding(where(fact), what, f"Declare the fact that does: class X(..., undoes=({event[1]},)).")
            continue
        for failure in endings:
            if not undoing & dance.following(failure):
                what = f"when {failure[1]} is said, nothing undoes {event[1]}: no reaction leads there."
                yield Finding(where(fact), what, f"Let {event[0]} hear what ends the order, and undo it.")


def deadlines(dance: Dance) -> Iterator[Finding]:
    """Who sets an order in motion waits for it with a deadline."""
    for reaction in dance.reactions:
        said = [(reaction.service, fact.__name__) for fact in reaction.says]
        others = [
            event[1]
            for event in said
            if any(each.service != reaction.service and each.says for each in dance.hearing(event))
        ]
        service = next(each for each in dance.services if each.name == reaction.service)
        state = service.reactions[reaction.heard].state
        if reaction.topic.endswith(REQUESTS) and others and state not in service.timed:
            what = f"{reaction.service} says {', '.join(others)} and then waits for others, without a deadline."
            yield Finding(reaction.where, what, f"Give {state.__name__} a due_at, and declare what is decided then.")


def cycles(dance: Dance) -> Iterator[Finding]:
    """No fact leads to itself."""
    for event, fact in dance.facts.items():
        if event in dance.following(event):
            yield Finding(
                where(fact),
                f"{event[1]} may lead to {event[1]} again: a cycle without an end.",
                "Break it where the state can tell that all was done, and say another fact there.",
            )


def partitions(dance: Dance) -> Iterator[Finding]:
    """A fact is about what the event that it answers is about, so it stays in the partition."""
    for reaction in dance.reactions:
        heard = dance.facts.get(reaction.name)
        keys = {fact: _key_of(fact) for fact in ((heard, *reaction.says) if heard else reaction.says)}
        first = next(iter(keys), None)
        for fact, key in keys.items():
            if first is not None and key != keys[first]:
                what = (
                    f"{fact.__name__} is keyed by {_told(key)}, but {first.__name__}, from which it comes, by "
                    f"{_told(keys[first])}: it would leave its partition."
                )
                yield Finding(reaction.where, what, "Key both by the same, or let the service of the other key say it.")


def idempotency(dance: Dance) -> Iterator[Finding]:
    """Every effect has an idempotency key."""
    effects = dict.fromkeys(effect for reaction in dance.reactions for effect in reaction.asks)
    for effect in effects:
        if effect.key is Effect.key:
            what = f"{effect.__name__} has no idempotency key: done again, it would happen twice."
            yield Finding(where(effect), what, "Define 'key': what is done once, however often it is asked.")


def owing(dance: Dance) -> Iterator[Finding]:
    """What ends an order ends the wait for its deadline."""
    for service in dance.services:
        if not service.timed:
            continue
        overdue = next(each for each in dance.reactions if each.service == service.name and each.heard is Due)
        ends = [*overdue.says, *(fact for fact in service.says.values() if fact.commits)]
        for fact in dict.fromkeys(ends):
            folds = [each for each in service.evolutions.get(fact, ()) if each.state in service.timed]
            if not any("due_at" in str(each.evolve.__code__.co_consts) for each in folds):
                what = f"{fact.__name__} ends what {service.name} waits for, and its fold leaves the deadline standing."
                yield Finding(where(folds[0].evolve if folds else fact), what, "Set due_at to None there.")


def _goes_forward(dance: Dance, event: Name, fact: type[Fact]) -> bool:
    """It binds the world or what others share, and may still be called off."""
    if fact.failure or fact.undoes or not dance.saying(event):
        return False
    service = next(each for each in dance.services if each.name == event[0])
    shares = any(evolution.state.shared for evolution in service.evolutions.get(fact, ()))
    causes = dance.saying(event)
    asked = any(reaction.asks and not _undoes(reaction) for reaction in causes)
    after_all = all(_commits(dance, reaction) or reaction.topic.endswith(REQUESTS) for reaction in causes)
    return (shares or asked) and not after_all and not all(_undoes(reaction) for reaction in causes)


def _commits(dance: Dance, reaction: Reacts) -> bool:
    heard = dance.facts.get(reaction.name)
    return heard is not None and heard.commits


def _undoes(reaction: Reacts) -> bool:
    return any(fact.undoes for fact in reaction.says)


def _key_of(fact: type[Fact]) -> tuple[str, ...]:
    """What a fact's key is made of."""
    prop: Any = fact.key
    return tuple(sorted(prop.fget.__code__.co_names))


def _told(key: Iterable[str]) -> str:
    return ", ".join(key) or "nothing"


CHECKS: tuple[Callable[[Dance], Iterator[Finding]], ...] = (
    one_writer,
    undeclared,
    unheard,
    unsaid,
    failures,
    undone,
    deadlines,
    cycles,
    partitions,
    idempotency,
    owing,
)
