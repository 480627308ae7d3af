"""A small choreography for the simulation: three services that hear each other, one of which asks the world.

a hears requests and the facts of b and c; b hears a and c; c hears a and b. What a service says follows from the event
alone: each event carries a seed from which it draws how many facts to say. So the dance has echoes, forks and races.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from streams.kit.events import Answer, Effect, Event, Fact, Heard, Request, State
from streams.kit.language import Language, Schema
from streams.kit.service import Said, Service

DEEPEST = 5


class Asked(Request, topic="a.requests"):
    """Begins a dance about `about`."""

    about: str
    seed: int
    depth: int

    @property
    def key(self) -> str:
        return self.about


class Step(Fact):
    """One step of the dance."""

    about: str
    seed: int
    depth: int

    @property
    def key(self) -> str:
        return self.about


class ASaid(Step):
    """Said by a."""


class BSaid(Step):
    """Said by b."""


class CSaid(Step):
    """Said by c."""


class Ring(Effect):
    """What b asks of the world: how many bells were rung so far?"""

    about: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.about}/{self.seed}"


class Rung(Answer):
    """This was the bell with that number."""

    number: int


EVENTS: dict[str, type[Request | Fact]] = {"a.requests": Asked, "a": ASaid, "b": BSaid, "c": CSaid}


def dance() -> dict[str, Service]:
    """Fresh services a, b and c."""
    says: dict[str, type[Step]] = {"a": ASaid, "b": BSaid, "c": CSaid}
    hears = {"a": ["a.requests", "b", "c"], "b": ["a", "c"], "c": ["a", "b"]}
    return {name: _service(name, says, hears[name]) for name in says}


def language() -> Language:
    """The schemas of the dance."""
    fields = [{"name": "about", "type": "string"}, {"name": "seed", "type": "long"}, {"name": "depth", "type": "int"}]
    schemas = []
    for topic, event in EVENTS.items():
        raw: dict[str, Any] = {"type": "record", "name": event.__name__, "namespace": "dance", "fields": fields}
        schemas.append(
            Schema(
                topic=topic,
                name=event.__name__,
                version=1,
                fullname=f"dance.{event.__name__}",
                raw=raw,
                text=msgspec.json.encode(raw).decode(),
                file=Path(topic) / f"{event.__name__}.v1.avsc",
            )
        )
    return Language(schemas)


def _service(name: str, says: dict[str, type[Step]], hears: list[str]) -> Service:
    class Row(State, table=f"{name}_rows", key="about"):
        about: str
        steps: int = 0
        last: int = 0

    Row.__name__ = f"Row{name.upper()}"
    own = says[name]
    service = Service(name, states=[Row], says=[own], world=_no_world if name == "b" else None)

    def step(row: Row, event: Any) -> Iterator[Said]:
        rng = random.Random(f"{name}/{event.seed}")
        if event.depth >= DEEPEST:
            return
        if name == "b" and event.seed % 3 == 0:
            yield Ring(about=event.about, seed=event.seed)
            return
        for _ in range(rng.choice([0, 1, 1, 2]) if event.depth else 1):
            yield own(about=event.about, seed=rng.randrange(10**9), depth=event.depth + 1)

    def rung(row: Row, answer: Rung) -> Iterator[Said]:
        yield own(about=row.about, seed=answer.number * 3 + 1, depth=DEEPEST - 1)

    def stepped(row: Row, fact: Any) -> Row:
        return replace(row, steps=row.steps + 1, last=fact.seed)

    for function in (step, rung, stepped):
        function.__annotations__["row"] = Row
    for topic in hears:
        heard = Asked if topic == "a.requests" else says[topic]
        service.hears(_view(topic, heard))(step)
    if name == "b":
        service.answers(Ring)(rung)
    service.evolves(own)(stepped)
    return service.verify()


def _view(topic: str, event: type[Event]) -> type[Heard]:
    namespace = {"__annotations__": {"about": str, "seed": int, "depth": int}, "__module__": __name__}
    view: type[Heard] = type(Heard)(event.__name__, (Heard,), namespace, topic=topic)
    return view


def _no_world() -> Any:
    raise AssertionError("the simulation connects b to its own world")
