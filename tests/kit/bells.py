"""A world for tests of the guard: bells that are rung and silenced under one key, and a service that asks for it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext

from msgspec.structs import replace

from streams.kit.effects import Guarded
from streams.kit.events import Answer, Effect, State
from streams.kit.policies import REDIS, Policy
from streams.kit.records import Records
from streams.kit.resilience import Dependency
from streams.kit.service import Said, Service

POLICY = Policy(attempts=1, failures_to_open=2, open_seconds=60.0, timeout_seconds=30.0)


class Ring(Effect):
    """Ring it, once."""

    bell: str

    @property
    def key(self) -> str:
        return f"bell/{self.bell}"


class Silence(Effect):
    """Make it stop, and never ring again."""

    bell: str

    @property
    def key(self) -> str:
        return f"bell/{self.bell}"


class Rung(Answer):
    """It was rung, as the so-manieth."""

    number: int


class Cracked(Answer):
    """It does not ring."""

    reason: str


class Silenced(Answer):
    """It does not ring any more."""


class Tower(State, table="towers", key="name"):
    """What the service would remember."""

    name: str


class Bells:
    """The world. `asked` counts how often each bell was asked for; `meanwhile` happens before each round's answers."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        self.asked: Counter[Effect] = Counter()
        self.rounds = 0
        self.meanwhile = meanwhile
        self.numbers: dict[str, int] = {}
        self.silenced: set[str] = set()

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        self.rounds += 1
        self.asked.update(effects)
        if self.meanwhile is not None:
            await self.meanwhile()
        return [self._answer(effect) for effect in effects]

    def _answer(self, effect: Effect) -> Answer:
        match effect:
            case Silence(bell=bell):
                self.silenced.add(bell)
                return Silenced()
            case Ring(bell=bell) if bell in self.silenced:
                return Cracked(reason="it was silenced")
            case Ring(bell=bell):
                return Rung(number=self.numbers.setdefault(bell, len(self.numbers) + 1))
        raise TypeError(f"a bell cannot {type(effect).__name__}")


def ringer(name: str = "ringer") -> Service:
    """A service that asks for bells."""
    service = Service(name, states=[Tower], world=lambda: nullcontext(Bells()))

    @service.answers(Ring)
    def note_ringing(tower: Tower, answer: Rung | Cracked) -> Iterator[Said]:
        yield from ()

    @service.answers(Silence)
    def note_silence(tower: Tower, answer: Silenced) -> Iterator[Said]:
        yield from ()

    return service


class Pauses:
    """Real pauses, and a sign that one has begun: somebody waits for another owner."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.begun.set()
        await asyncio.sleep(seconds)


#: How Redis is treated in production, but that it is looked at again soon.
IMPATIENT = replace(REDIS, open_seconds=0.2)
#: For what Redis answers, also on a machine that has much else to do.
PATIENT = replace(REDIS, timeout_seconds=30.0, place_wait_seconds=30.0)


@asynccontextmanager
async def owner(
    redis: str,
    bells: Bells,
    *,
    policy: Policy = POLICY,
    lease_seconds: float = 5.0,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    service: Service | None = None,
    redis_policy: Policy = IMPATIENT,
) -> AsyncIterator[Guarded]:
    """One process's guard, with connections and breakers of its own."""
    service = service or ringer()
    async with Records.at(redis, service.name, 3600.0, lease_seconds, redis_policy) as records:
        dependency = Dependency("bells", replace(policy, meanwhile="no bell is rung"))
        yield Guarded(service, bells, dependency, records, pause=pause)
