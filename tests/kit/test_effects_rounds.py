"""What one round of questions says of the world, and of each effect: no order pays for another's question."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from streams.kit.effects import Guarded
from streams.kit.events import Answer, Effect, Unanswered, Unasked, Unreached
from streams.kit.resilience import Dependency
from tests.kit.bells import POLICY, Bells, Ring, Rung, ringer

GREAT, SMALL = Ring(bell="great"), Ring(bell="small")
WRONG = Unanswered(reason="it answers 400 Bad Request")
LATE = Unreached(reason="no answer within 2 s")
LEFT = Unasked(reason="not asked yet")


class Saying(Bells):
    """Bells that say this of the first effects of each round."""

    def __init__(self, *said: Answer) -> None:
        super().__init__()
        self.said = said

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        answers = await super().ask(effects)
        return [*self.said, *answers[len(self.said) :]]


def guard(bells: Bells, attempts: int = 1) -> Guarded:
    return Guarded(ringer(), bells, Dependency("bells", replace(POLICY, attempts=attempts)))


async def breaker_after_rounds(*said: Answer) -> str:
    guarded = guard(Saying(*said))
    for _ in range(POLICY.failures_to_open):
        assert await guarded.ask([GREAT, SMALL][: len(said)]) == list(said)
    return guarded.dependencies[0].state().breaker


@pytest.mark.parametrize(
    ("said", "breaker"),
    [
        ([LATE], "open"),
        ([LATE, LATE], "open"),
        ([LATE, LEFT], "open"),
        ([WRONG], "closed"),
        ([LATE, WRONG], "closed"),
        ([LATE, Rung(number=1)], "closed"),
        ([LEFT, Rung(number=1)], "closed"),
    ],
)
async def test_the_breaker_opens_only_when_nothing_comes_back_from_a_whole_round(
    said: list[Answer], breaker: str
) -> None:
    assert await breaker_after_rounds(*said) == breaker


async def test_who_is_told_to_come_later_holds_up_no_other_of_its_round() -> None:
    busy = Unanswered(reason="it answers 429", retry_after_seconds=3600.0)
    assert await guard(Saying(LATE, busy)).ask([GREAT, SMALL]) == [LATE, busy]


async def test_of_a_round_that_reached_nobody_each_effect_comes_again_when_it_was_told_to() -> None:
    away = Unreached(reason="it answers 503", retry_after_seconds=60.0)
    bells = Saying(LATE, away)
    assert await guard(bells, attempts=2).ask([GREAT, SMALL]) == [LATE, away]
    assert bells.rounds == 1, "one of them is not to be asked again within the call"
