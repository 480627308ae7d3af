"""The guard when things fail: Redis in every way it can, and the world itself.

Whatever Redis does, effects go on under the provider's key; whatever the world does, the caller gets an answer or is
told when to come again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from streams.kit.effects import Guarded
from streams.kit.errors import WorldUnavailable
from streams.kit.events import Answer, Effect, Unanswered, Unreached
from streams.kit.liveness import Progress
from streams.kit.policies import REDIS
from streams.kit.run import readiness
from tests.faulty_valkey import Fault, FaultyValkey, faulty_valkey
from tests.kit.bells import POLICY, Bells, Cracked, Ring, Rung, Silence, Silenced, owner
from tests.waiting import eventually

BELL = Ring(bell="great")
AWAY: list[Fault] = [FaultyValkey.killed, FaultyValkey.paused, FaultyValkey.full]


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyValkey]:
    async with faulty_valkey(tmp_path_factory.mktemp("valkey")) as valkey:
        yield valkey


@pytest.fixture
async def valkey(server: FaultyValkey) -> AsyncIterator[FaultyValkey]:
    await server.flushed()
    yield server
    await server.well()


def effects_guarded(how: str) -> float:
    return REGISTRY.get_sample_value("pavane_effects_guarded_total", {"service": "ringer", "how": how}) or 0.0


async def ask_until_recorded(guarded: Guarded, valkey: FaultyValkey) -> None:
    """Until a new effect leaves a record again."""
    number = 0

    async def recorded() -> bool:
        nonlocal number
        number += 1
        effect = Ring(bell=f"probe-{number}")
        await guarded.ask([effect])
        return bool(await valkey.redis.exists(f"pavane:effects:{{ringer}}:{effect.key}"))

    await eventually(recorded)


# -- Redis -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", AWAY)
async def test_without_redis_effects_go_on_quickly_and_records_come_back_with_it(
    valkey: FaultyValkey, fault: Fault
) -> None:
    bells = Bells()
    async with owner(valkey.url, bells) as guarded:
        await guarded.ask([Ring(bell="warm")])
        unguarded = effects_guarded("unguarded")
        await fault(valkey)

        with capture_logs() as lines:
            begun = time.monotonic()
            for number in range(200):
                assert await guarded.ask([Ring(bell=f"b{number}")]) == [Rung(number=number + 2)]
            seconds = time.monotonic() - begun

        assert effects_guarded("unguarded") - unguarded == 200
        assert seconds < 200 * REDIS.timeout_seconds / 10, "few waited for Redis, to find out"
        assert [line["event"] for line in lines] == ["breaker_open"]
        assert lines[0]["dependency"] == "redis"
        assert lines[0]["meanwhile"] == "effects are asked under the provider's own idempotency key alone"

        await valkey.well()
        await ask_until_recorded(guarded, valkey)
        assert set(bells.asked.values()) == {1}


@pytest.mark.parametrize("fault", [*AWAY, FaultyValkey.flushed])
async def test_a_fault_between_claim_and_outcome_costs_nothing_but_the_record(
    valkey: FaultyValkey, fault: Fault
) -> None:
    bells = Bells(lambda: fault(valkey))
    async with owner(valkey.url, bells) as guarded:
        assert await guarded.ask([BELL]) == [Rung(number=1)]
        await valkey.well()
        bells.meanwhile = None
        await ask_until_recorded(guarded, valkey)
        await valkey.flushed()
        assert await guarded.ask([BELL]) == [Rung(number=1)], "the provider knows it by its key"
    assert bells.asked[BELL] == 2


async def test_replies_of_a_frozen_redis_that_thaws_are_not_taken_for_others(valkey: FaultyValkey) -> None:
    bells = Bells()
    kept = [Ring(bell=f"kept-{number}") for number in range(20)]
    async with owner(valkey.url, bells) as guarded:
        first = await guarded.ask(kept)
        await valkey.paused()
        assert await guarded.ask([BELL]) == [Rung(number=21)]
        await valkey.well()
        await ask_until_recorded(guarded, valkey)
        assert await guarded.ask(list(reversed(kept))) == list(reversed(first))


@pytest.mark.parametrize("fault", [FaultyValkey.killed, FaultyValkey.full])
async def test_what_was_undone_while_redis_was_away_is_not_given_from_an_older_record(
    valkey: FaultyValkey, fault: Fault
) -> None:
    bells = Bells()
    async with owner(valkey.url, bells) as guarded:
        assert await guarded.ask([BELL]) == [Rung(number=1)]
        await fault(valkey)
        assert await guarded.ask([Silence(bell=BELL.bell)]) == [Silenced()]
        await valkey.well()
        record = f"pavane:effects:{{ringer}}:{BELL.key}"
        assert str(await valkey.redis.get(record)).startswith("b'kept 0 Ring"), "the older record is still there"

        await ask_until_recorded(guarded, valkey)
        async with owner(valkey.url, bells) as successor:
            assert await successor.ask([BELL]) == [Cracked(reason="it was silenced")]


# -- the world -------------------------------------------------------------------------------------------------------


class Away(Bells):
    """Bells that nobody reaches, for now."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = True

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        if self.is_away:
            self.rounds += 1
            raise WorldUnavailable("the tower is closed", retry_after_seconds=7.0)
        return await super().ask(effects)


async def test_a_world_that_is_away_is_said_for_each_effect_and_nobody_else_waits(valkey: FaultyValkey) -> None:
    bells, others = Away(), Bells()
    effects = [Ring(bell=f"b{number}") for number in range(3)]
    async with owner(valkey.url, bells) as guarded, owner(valkey.url, others) as another:
        told = await guarded.ask(effects)
        assert told == [Unanswered(reason="the tower is closed", retry_after_seconds=7.0)] * 3
        begun = time.monotonic()
        assert await another.ask(effects) == [Rung(number=number) for number in (1, 2, 3)]
        assert time.monotonic() - begun < 1.0, "its claims were released"


async def test_while_the_breaker_is_open_the_world_is_left_alone_and_callers_are_told(valkey: FaultyValkey) -> None:
    bells = Away()
    async with owner(valkey.url, bells) as guarded:
        for _ in range(POLICY.failures_to_open):
            await guarded.ask([BELL])
        (told,) = await guarded.ask([BELL])

        assert bells.rounds == POLICY.failures_to_open
        assert isinstance(told, Unanswered)
        assert "circuit breaker is open" in told.reason
        assert 0 < told.retry_after_seconds <= POLICY.open_seconds
        ready = readiness(_at_rest(), _at_rest(), guarded)
        assert ready["ready"] is True
        assert ready["degraded"] == ["bells"]
        assert ready["dependencies"]["bells"]["breaker"] == "open"
        assert ready["dependencies"]["redis"]["breaker"] == "closed"


async def test_kept_outcomes_are_given_while_the_world_is_away(valkey: FaultyValkey) -> None:
    bells = Away()
    bells.is_away = False
    async with owner(valkey.url, bells) as guarded:
        await guarded.ask([BELL])
        bells.is_away = True
        new = Ring(bell="new")
        kept, told = await guarded.ask([BELL, new])
    assert kept == Rung(number=1)
    assert isinstance(told, Unanswered)


async def test_a_round_answered_in_part_is_kept_in_part(valkey: FaultyValkey) -> None:
    class Partly(Bells):
        async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
            answers = await super().ask(effects)
            return [Unanswered(reason="429", retry_after_seconds=2.0), *answers[1:]]

    first, second = Ring(bell="first"), Ring(bell="second")
    partly, whole = Partly(), Bells()
    async with owner(valkey.url, partly) as guarded, owner(valkey.url, whole) as another:
        assert await guarded.ask([first, second]) == [
            Unanswered(reason="429", retry_after_seconds=2.0),
            Rung(number=2),
        ]
        assert not guarded.dependencies[0].state().is_degraded
        assert await another.ask([first, second]) == [Rung(number=1), Rung(number=2)]
    assert whole.asked == {first: 1}


async def test_a_world_of_which_nothing_comes_back_counts_as_away(valkey: FaultyValkey) -> None:
    class Silent(Bells):
        async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
            return [Unreached(reason="503", retry_after_seconds=0.5) for _ in effects]

    async with owner(valkey.url, Silent()) as guarded:
        for _ in range(POLICY.failures_to_open):
            assert await guarded.ask([BELL]) == [Unreached(reason="503", retry_after_seconds=0.5)]
        assert guarded.dependencies[0].state().breaker == "open"


async def test_answers_that_cannot_be_matched_to_effects_are_not_guessed_at(valkey: FaultyValkey) -> None:
    class Double(Bells):
        async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
            return [*await super().ask(effects), Rung(number=9)]

    async with owner(valkey.url, Double()) as guarded:
        (told,) = await guarded.ask([BELL])
    assert isinstance(told, Unanswered)
    assert "2 answers came to 1 effects" in told.reason


async def test_a_world_that_hangs_is_not_waited_for_and_may_have_done_it(valkey: FaultyValkey) -> None:
    hanging = Bells(asyncio.Event().wait)
    async with owner(valkey.url, hanging, policy=replace(POLICY, timeout_seconds=0.05)) as guarded:
        (told,) = await guarded.ask([BELL])
        assert isinstance(told, Unanswered)
        assert told.reason == "bells: no answer within 0.05 s; what was asked may have been done"
        hanging.meanwhile = None
        assert await guarded.ask([BELL]) == [Rung(number=1)]


def _at_rest() -> Any:
    """A worker and a log with nothing to tell."""
    at_rest = SimpleNamespace(
        halted={},
        away=None,
        trouble=None,
        lanes={},
        outboxes={},
        service=SimpleNamespace(name="ringer"),
        progress=Progress(),
        unanswered_seconds=0,
    )
    return cast("Any", at_rest)
