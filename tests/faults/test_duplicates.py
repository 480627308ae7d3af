"""Everything stands in the log twice, and what is long over is said again: it is known, and changes nothing."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pavane.http import Connection
from streams.kit.lane import REQUESTS
from streams.kit.run import find, services
from tests.faults.echo import Echo, echoing
from tests.faults.harness import ALL, LONG, ORDERS, Ground, seeds, under_load
from tests.faults.load import RARE_PIECES
from tests.faults.test_clock_jumps import jump, with_wrong_clock
from tests.waiting import eventually

OLDEST = 200
DAY_SECONDS = 86_400
#: Orders that end a day before the others, by the clocks of those who say so.
ENDED_YESTERDAY = 200
KNOWN_SECONDS = 60.0
REQUESTED = "orders.requests"
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
        followed = echo.said_again(REQUESTED)
        await echo.say_the_oldest_again(OLDEST)
        await all_known(ground, echo, before, len(load.ended))
        assert echo.said_again(REQUESTED) > followed > load.placed // 4
    assert load.ended.keys() == load.kinds.keys(), "there are other orders than the customers know of"


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_what_was_said_a_day_ago_and_comes_again_is_known_and_a_request_of_then_places_nothing(
    ground: Ground, tmp_path: Path, seed: int
) -> None:
    """Facts are dated by their speakers, whose clocks are a day behind at first; requests by the log, as they come."""
    speakers = [name for name in services() if find(name).says]
    clocks = {name: tmp_path / name for name in speakers}
    await asyncio.gather(*(with_wrong_clock(ground, name, file, -DAY_SECONDS) for name, file in clocks.items()))
    echo = Echo(ground.stack.addresses)
    since = await echo.ends()
    async with under_load(ground, seed) as load:
        before = {service: await known(ground, service) for service in services()}
        await eventually(lambda: len(load.ended) > ENDED_YESTERDAY, KNOWN_SECONDS, "orders end, yesterday")
        until = await echo.ends()
        await asyncio.gather(*(jump(ground, name, file, 0.0) for name, file in clocks.items()))
        await load.accepted(len(load.ended) + ENDED_YESTERDAY)
        await echo.say_again(since, until)
        assert all(time.time() - echo.newest(name) >= DAY_SECONDS for name in speakers), "some were said today"
        await all_known(ground, echo, before, 0)
        assert echo.said_again(REQUESTED) > 0
    assert load.ended.keys() == load.kinds.keys(), "there are other orders than the customers know of"
    assert (await load.shop.stock("rare")).received == RARE_PIECES, "a receipt was booked again"


async def all_known(ground: Ground, echo: Echo, before: Mapping[str, int], more_than: int) -> None:
    """Return when every service has passed over all that it was to hear again."""
    for service in services():
        facts = [topic for topic in find(service).topics if not topic.endswith(REQUESTS)]
        twice = echo.said_again(*facts)
        assert twice > more_than, f"{service} was to hear {twice} facts again"

        async def passed_over(it: str = service, least: int = before[service] + twice) -> bool:
            return await known(ground, it) >= least

        await eventually(passed_over, KNOWN_SECONDS, f"{service} passes {twice} facts over")


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
