"""A service is away: within seconds the list names it, every order that it holds up, and the command that helps."""

import pytest

from api.late import LEAST_SECONDS
from infra.stack import Stack
from pavane.dead_letters.desk import Desk
from pavane.overdue.looking import look
from pavane.overdue.reasons import Why
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry
from streams.kit.run import services
from tests.faults.harness import LONG, Ground, seeds, under_load
from tests.waiting import eventually

AWAY = "shipping"
FIRST_ORDERS = 200
HELD_UP = 100
SECONDS = 60.0


def desk(stack: Stack) -> Desk:
    addresses = stack.addresses
    databases = {name: addresses.postgres[name] for name in services()}
    return Desk(databases, addresses.kafka_bootstrap, ConfluentRegistry(addresses.registry_url), Language.load())


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_a_service_that_is_away_is_named_with_every_order_that_it_holds_up(ground: Ground, seed: int) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        [away] = ground.running(AWAY)
        away.kill()
        assert not away.is_running
        wanted = Why("", f"pavane run {AWAY}")

        async def named() -> bool:
            found = [(late, why) for late, why in (await look(desk(ground.stack))).late if late.speaker == AWAY]
            held_up = {late.order_id for late, why in found if why.remedy == wanted.remedy}
            return len(held_up) >= HELD_UP

        await eventually(named, LEAST_SECONDS + SECONDS, f"{HELD_UP} orders are overdue for want of {AWAY}")
        await ground.replace(AWAY)
    assert [late for late, _ in (await look(desk(ground.stack))).late] == []
