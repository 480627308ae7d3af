"""Effects, guarded: each is asked of the outside world once, as far as that can be known, and within bounds.

    claim in Redis ─┬─ kept: its outcome is given, nobody is asked
                    ├─ held by another owner: wait until its lease ends, then claim again
                    └─ ours, or Redis is away: ask the provider under the effect's key, then keep the outcome

Redis (`records`) saves asking twice; the provider, which is given the same key, makes asking twice harmless. So
everything about Redis may fail. What the provider itself may cost is bounded by its `Dependency` (`resilience`).
"""

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from secrets import token_hex
from types import UnionType
from typing import TypeGuard, Union, get_args, get_origin, get_type_hints

import msgspec

from streams.kit.errors import WorldUnavailable, WrongDeclaration
from streams.kit.events import Answer, Effect, Unanswered, Unasked, Unreached
from streams.kit.fold import Asked
from streams.kit.policies import world_of
from streams.kit.records import Records
from streams.kit.resilience import Dependency
from streams.kit.service import Service, World
from streams.kit.telemetry import Telemetry

DAY_SECONDS = 86_400
LONGEST_LOOK_SECONDS = 0.25
"""How often, at least, a record that another owner holds is looked at again."""


@asynccontextmanager
async def guarded(service: Service, redis: str, keep_days: float) -> "AsyncIterator[Guarded]":
    """Connects to the service's world and guards it. Without a `redis` URL there are no records."""
    assert service.world is not None, f"{service.name} has no world"
    dependency = Dependency(*world_of(service.name))
    async with service.world() as world:
        if not redis:
            yield Guarded(service, world, dependency)
            return
        async with Records.at(redis, service.name, keep_days * DAY_SECONDS) as records:
            yield Guarded(service, world, dependency, records)


class NobodyReached(WorldUnavailable):
    """Of a whole round nothing came back. `answers`: what is known of each effect."""

    def __init__(self, answers: Sequence[Answer], unreached: Sequence[Unreached]) -> None:
        # The longest: nobody is asked again, within the call, before the time that it names.
        super().__init__(unreached[0].reason, max(each.retry_after_seconds for each in unreached))
        self.answers = answers


class Guarded:
    """The `World` of one service behind its guard. It never raises `WorldUnavailable`: see `Unanswered`."""

    def __init__(
        self,
        service: Service,
        world: World,
        dependency: Dependency,
        records: Records | None = None,
        now: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.dependencies = (dependency,) if records is None else (dependency, records.dependency)
        self._world = world
        self._dependency = dependency
        self._records = records
        self._now = now
        self._pause = pause
        self._outcomes = Outcomes(service)
        self._telemetry = Telemetry(service.name)

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        """Answer all effects, in their order; equal ones are asked once. Waits for other owners, at most a little
        longer than one lease, but only when all else is answered and kept."""
        owner = token_hex(8)
        waiting: dict[Asked, Effect] = {(type(effect), effect.key): effect for effect in effects}
        answers: dict[Asked, Answer] = {}
        begun: float | None = None
        while waiting:
            held = await self._answer(owner, waiting, answers)
            if begun is None:
                begun = self._now()
                self._telemetry.effects_guarded("waited", len(held))
            elif self._now() - begun > self._longest_wait_seconds:
                for asked, seconds in held.items():
                    answers[asked] = Unanswered(reason="another owner is asking for it", retry_after_seconds=seconds)
            waiting = {asked: effect for asked, effect in waiting.items() if asked not in answers}
            if waiting:
                await self._pause(min(LONGEST_LOOK_SECONDS, *held.values()) if held else 0.0)
        return [answers[type(effect), effect.key] for effect in effects]

    async def _answer(
        self, owner: str, waiting: Mapping[Asked, Effect], answers: dict[Asked, Answer]
    ) -> dict[Asked, float]:
        """Put into `answers` what can be answered now. What is held by others, and for how many seconds yet."""
        claims = await self._records.claim(owner, list(waiting.values())) if self._records is not None else None
        if claims is None:
            answers.update(await self._ask(None, waiting))
            return {}
        ours: dict[Asked, Effect] = {}
        unreadable: list[tuple[Effect, bytes]] = []
        held: dict[Asked, float] = {}
        kept = 0
        for (asked, effect), claim in zip(waiting.items(), claims, strict=True):
            match claim:
                case None:
                    ours[asked] = effect
                case bytes():
                    answer = self._outcomes.decode(asked[0], claim)
                    if answer is None:
                        unreadable.append((effect, claim))
                    else:
                        answers[asked] = answer
                        kept += 1
                case _:
                    held[asked] = claim
        self._telemetry.effects_guarded("kept", kept)
        if unreadable and self._records is not None:
            self._telemetry.effects_guarded("unreadable", len(unreadable))
            await self._records.discard(unreadable)
        answers.update(await self._ask(owner, ours))
        return held

    async def _ask(self, owner: str | None, effects: Mapping[Asked, Effect]) -> dict[Asked, Answer]:
        """Ask the world for effects that `owner` claimed, and keep the outcomes. Without records `owner` is None."""
        if not effects:
            return {}
        each = list(effects.values())
        try:
            with self._renewing(owner, each):
                answered = await self._dependency.call(lambda: self._round(each))
        except NobodyReached as error:
            answered = error.answers
        except WorldUnavailable as error:
            answered = [Unanswered(reason=str(error), retry_after_seconds=error.retry_after_seconds) for _ in each]
        except BaseException:
            await self._settle(owner, each, ())
            raise
        given = [(effect, answer) for effect, answer in zip(each, answered, strict=True) if not is_unanswered(answer)]
        self._telemetry.effects_guarded("asked" if owner is not None else "unguarded", len(given))
        left = [effect for effect, answer in zip(each, answered, strict=True) if is_unanswered(answer)]
        unasked = sum(isinstance(answer, Unasked) for answer in answered)
        self._telemetry.effects_guarded("unasked", unasked)
        self._telemetry.effects_guarded("unanswered", len(left) - unasked)
        await self._settle(owner, left, [(effect, self._outcomes.encode(answer)) for effect, answer in given])
        return dict(zip(effects, answered, strict=True))

    async def _round(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        answers = await self._world.ask(effects)
        if len(answers) != len(effects):
            raise WorldUnavailable(
                f"{len(answers)} answers came to {len(effects)} effects: which to which is not known"
            )
        unreached = [answer for answer in answers if isinstance(answer, Unreached)]
        if unreached and all(isinstance(answer, Unreached | Unasked) for answer in answers):
            # So that it is asked again, and counts for the breaker, as if the adapter had raised it. Any other answer,
            # were it a refusal or garbage, comes from somebody who is there: it is about its own effect alone.
            raise NobodyReached(answers, unreached)
        return answers

    async def _settle(
        self, owner: str | None, left: Sequence[Effect], outcomes: Sequence[tuple[Effect, bytes]]
    ) -> None:
        if self._records is not None and owner is not None:
            await self._records.release(owner, left)
            await self._records.keep(owner, outcomes)

    @contextmanager
    def _renewing(self, owner: str | None, effects: Sequence[Effect]) -> Iterator[None]:
        if self._records is None or owner is None:
            yield
            return
        renewing = asyncio.create_task(self._records.renew(owner, effects), name="lease")
        try:
            yield
        finally:
            renewing.cancel()

    @property
    def _longest_wait_seconds(self) -> float:
        return self._records.lease_seconds + LONGEST_LOOK_SECONDS if self._records is not None else 0.0


class Outcomes:
    """How outcomes are written: msgpack of the answer's type name and the answer.

    Which answers an effect may have is read from the service's `answers` functions. Raises `WrongDeclaration` for one
    whose answer is not annotated with them.
    """

    def __init__(self, service: Service) -> None:
        self._decoders = {
            effect: {answer.__name__: msgspec.msgpack.Decoder(answer) for answer in answers_of(service, effect)}
            for effect in service.answering
        }

    @staticmethod
    def encode(answer: Answer) -> bytes:
        return msgspec.msgpack.encode((type(answer).__name__, answer))

    def decode(self, effect: type[Effect], outcome: bytes) -> Answer | None:
        """The answer, or None when this version cannot read it."""
        try:
            name, answer = _NAMED.decode(outcome)
            decoder = self._decoders.get(effect, {}).get(name)
            return decoder.decode(answer) if decoder is not None else None
        except msgspec.MsgspecError:
            return None


_NAMED = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


def is_unanswered(answer: Answer) -> TypeGuard[Unanswered]:
    return isinstance(answer, Unanswered)


def answers_of(service: Service, effect: type[Effect]) -> tuple[type[Answer], ...]:
    """The answers that an effect may have, as the service's `answers` function says. Raises `WrongDeclaration`."""
    function = service.answering[effect]
    _, parameter = list(inspect.signature(function).parameters)[:2]
    hint = get_type_hints(function).get(parameter)
    types = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not all(isinstance(each, type) and issubclass(each, Answer) and each is not Answer for each in types):
        raise WrongDeclaration(
            f"{function.__module__}.{function.__qualname__}: annotate {parameter!r} with the answers that "
            f"{effect.__name__} may have: their outcomes are kept"
        )
    return types
