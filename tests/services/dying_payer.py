"""Authorizes one payment and hangs when the provider has done it: a process to be killed before the outcome is kept.

python -m tests.services.dying_payer REDIS_URL WORLD_DATABASE_URL ORDER_ID
"""

import asyncio
import sys
from collections.abc import Sequence

from streams.billing.service import billing
from streams.billing.simulator import SCRIPT
from streams.kit.effects import Guarded
from streams.kit.events import Answer, Effect
from streams.kit.policies import world_of
from streams.kit.records import Records
from streams.kit.resilience import Dependency
from streams.kit.service import World
from streams.kit.simulation import DATABASE, SimulatedWorld
from tests.services.payments import LEASE_SECONDS, authorize


class Hangs:
    """A provider that does what it is asked and whose answer never comes."""

    def __init__(self, provider: World) -> None:
        self._provider = provider

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        await self._provider.ask(effects)
        sys.stdout.write("charged\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
        raise AssertionError("it hangs for ever")


async def main(redis: str, world: str, order_id: str) -> None:
    async with (
        SimulatedWorld.playing(SCRIPT, {DATABASE: world}) as provider,
        Records.at(redis, billing.name, 3600.0, LEASE_SECONDS) as records,
    ):
        guarded = Guarded(billing, Hangs(provider), Dependency(*world_of(billing.name)), records)
        await guarded.ask([authorize(order_id)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
