"""Everything stands in the log twice, and what is long over is said again: it is known, and changes nothing."""

import pytest

from pavane.http import Connection
from streams.kit.lane import REQUESTS
from streams.kit.run import find, services
from tests.faults.echo import echoing
from tests.faults.harness import ALL, ORDERS, Ground, seeds, under_load
from tests.waiting import eventually

OLDEST = 200
KNOWN_SECONDS = 60.0
METRIC = "pavane_records_known_total"
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("seed", seeds())
async def test_every_record_twice_and_the_oldest_a_third_time_are_known_and_nothing_happens_twice(
    ground: Ground, seed: int
) -> None:
    before = {service: await known(ground, service) for service in services()}
    async with under_load(ground, seed) as load:
        await load.accepted(1)
        async with echoing(ground.stack.addresses) as echo:
            await load.accepted(ORDERS if ALL else ORDERS // 2)
        await echo.say_the_oldest_again(OLDEST)
        for service in services():
            facts = [topic for topic in find(service).topics if not topic.endswith(REQUESTS)]
            twice = echo.said_again(*facts)
            assert twice > len(load.ended), f"{service} was to hear {twice} facts again"

            async def passed_over(it: str = service, least: int = before[service] + twice) -> bool:
                return await known(ground, it) >= least

            await eventually(passed_over, KNOWN_SECONDS, f"{service} passes {twice} facts over")
        assert echo.said_again("orders.requests") > load.placed // 4


async def known(ground: Ground, service: str) -> int:
    """How many records the service's only process has passed over, as it tells itself."""
    [instance] = ground.running(service)
    await ground.ready(instance)
    connection = Connection(instance.url, KNOWN_SECONDS)
    try:
        answer = await connection.ask("GET", "/metrics")
    finally:
        connection.close()
    [told] = [line for line in answer.body.decode().splitlines() if line.startswith(METRIC + "{")]
    return int(float(told.rpartition(" ")[2]))
