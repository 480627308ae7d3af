"""The dance as data: what every service hears, says and asks, and which of it follows from which. Read from code alone.

What a reaction may say is read from its own code: the facts and effects that it names, or that functions of its package
name which it calls, or that stand in tables. That is what it may say in some state, not what it does say; the explorer
knows the latter.
"""

import dis
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from streams.kit.events import Effect, Event, Fact, Heard
from streams.kit.lane import REQUESTS
from streams.kit.service import Service

ROOT = Path(__file__).parents[1]
#: What loads a global name, or one of the function around.
LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
Name = tuple[str, str]
"""An event: its topic and its name."""


class Reacts(NamedTuple):
    """One reaction: who, to what, in which function, and what it may say and ask; also once the world has answered."""

    service: str
    heard: type[Event]
    topic: str
    function: Callable[..., Any]
    says: tuple[type[Fact], ...]
    asks: tuple[type[Effect], ...]

    @property
    def name(self) -> Name:
        return self.topic, self.heard.__name__

    @property
    def where(self) -> str:
        return where(self.function)


class Dance:
    """All services together."""

    def __init__(self, services: Iterable[Service]) -> None:
        self.services = tuple(services)
        self.reactions = tuple(each for service in self.services for each in _reactions(service))
        self.facts = {(service.name, name): fact for service in self.services for name, fact in service.says.items()}

    def hearing(self, event: Name) -> list[Reacts]:
        """The reactions to one event."""
        return [each for each in self.reactions if each.name == event]

    def saying(self, event: Name) -> list[Reacts]:
        """The reactions that may say one event."""
        fact = self.facts.get(event)
        return [each for each in self.reactions if each.service == event[0] and fact in each.says]

    def looking_on(self, event: Name) -> list[str]:
        """The projections that hear it."""
        views = [(service.name, view) for service in self.services if service.is_projection for view in service.views]
        return [name for name, view in views if (view.topic, view.__name__) == event]

    @property
    def events(self) -> list[Name]:
        """Every event that is said or heard: requests first, then facts, as services declare them."""
        heard = [each.name for each in self.reactions if each.topic]
        requests = [name for name in heard if name[0].endswith(REQUESTS)]
        return list(dict.fromkeys([*requests, *self.facts, *heard]))

    def following(self, event: Name) -> set[Name]:
        """Everything that may come of an event, at last."""
        seen: set[Name] = set()
        todo = [event]
        while todo:
            for reaction in self.hearing(todo.pop()):
                new = {(reaction.service, fact.__name__) for fact in reaction.says} - seen
                seen |= new
                todo += new
        return seen


def _reactions(service: Service) -> Iterator[Reacts]:
    for heard, reaction in service.reactions.items():
        named = tuple(dict.fromkeys(_named(reaction.decide, set())))
        asks = tuple(each for each in named if issubclass(each, Effect))
        notes = [service.answering[effect] for effect in asks if effect in service.answering]
        answered = [each for note in notes for each in _named(note, set())]
        says = tuple(dict.fromkeys(each for each in (*named, *answered) if issubclass(each, Fact)))
        topic = heard.topic if issubclass(heard, Heard) else ""
        yield Reacts(service.name, heard, topic, reaction.decide, says, asks)


def _named(function: Callable[..., Any], seen: set[Callable[..., Any]]) -> Iterator[type[Any]]:
    """Facts and effects that a function, or one of its package that it calls, names; also those in tables."""
    if function in seen:
        return
    seen.add(function)
    spaces = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    todo = list(_values(function.__code__, spaces))
    while todo:
        value = todo.pop(0)
        if isinstance(value, type) and issubclass(value, Fact | Effect):
            yield value
        elif isinstance(value, Mapping):
            todo[:0] = value.values()
        elif isinstance(value, list | tuple):
            todo[:0] = value
        elif inspect.isfunction(value) and _package(value) == _package(function):
            yield from _named(value, seen)


def _values(code: CodeType, spaces: Mapping[str, Any]) -> Iterator[Any]:
    """What stands for the names in the code, also behind those of modules."""
    value = None
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, ModuleType):
            value = getattr(value, step.argval, None)
        else:
            value = spaces.get(step.argval) if step.opname in LOADS else None
        yield value
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _values(constant, spaces)


def _package(function: Callable[..., Any]) -> str:
    return function.__module__.partition(".")[0]


def where(thing: Any) -> str:
    """The file and line in which a function or class stands."""
    file = Path(inspect.getsourcefile(thing) or "?")
    line = inspect.getsourcelines(thing)[1]
    return f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{line}"


def table(dance: Dance) -> str:
    """What follows from what, as text: a line a reaction."""
    lines = []
    for event in dance.events:
        topic, name = event
        for reaction in dance.hearing(event):
            said = [fact.__name__ for fact in reaction.says] + [f"asks {each.__name__}" for each in reaction.asks]
            lines.append((name, topic, reaction.service, ", ".join(said), reaction.where))
        if not dance.hearing(event):
            lines.append((name, topic, ", ".join(dance.looking_on(event)) or "nobody", "(looks on)", ""))
    lines += [
        ("(a deadline)", "", each.service, ", ".join(fact.__name__ for fact in each.says), each.where)
        for each in dance.reactions
        if not each.topic
    ]
    head = ("event", "topic", "heard by", "which may say", "where")
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    padded = (zip(line, widths, strict=True) for line in [head, *lines])
    return "".join("  ".join(f"{cell:<{width}}" for cell, width in line).rstrip() + "\n" for line in padded)
