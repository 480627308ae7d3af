"""The schema registry is away, or slow, while orders flow: whoever knows the language goes on speaking it."""

import struct
from uuid import uuid4

import pytest

from infra.addresses import REGISTRY
from infra.apicurio import Apicurio
from streams.kit.parking import UNREAD
from streams.kit.run import services
from streams.kit.shop import CUSTOMER, Order
from tests.faults.between import proxied
from tests.faults.harness import ALL, LONG, Ground, seeds, under_load
from tests.faults.strangers import Stranger, asked_for
from tests.waiting import eventually

FIRST_ORDERS = 40
ENDED_MEANWHILE = 300
SECONDS = 90.0
#: Longer than one chunk may take; a question takes several, so each lasts longer than anybody waits for it.
SLOW_SECONDS = 1.5
NEVER_GIVEN = struct.pack(">bI", 0, 2**31 - 2) + b"anything"
UNREAD_RECORDS = "SELECT count(*), 0 FROM parked WHERE reason = %s"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def registry(ground: Ground) -> Apicurio:
    if ground.stack.apicurio is None:
        pytest.skip("the registry is not ours to stop")
    return ground.stack.apicurio


@LONG
@pytest.mark.parametrize("seed", seeds())
async def test_without_the_registry_all_orders_end_but_those_that_cannot_be_read_without_it(
    ground: Ground, registry: Apicurio, seed: int
) -> None:
    stranger = Stranger(ground.stack.addresses)
    await stranger.learn()
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        newer = asked_for(load.shop.tenant)
        value = stranger.encode_newer(newer)
        registry.kill()
        assert not registry.is_running
        await stranger.send(newer.order_id.encode(), value)
        never = await stranger.send(uuid4().hex.encode(), NEVER_GIVEN)
        await eventually(lambda: has_unread(ground, 2), SECONDS, "both wait for the registry")
        enough = len(load.ended) + ENDED_MEANWHILE
        await eventually(lambda: len(load.ended) > enough, SECONDS, "orders end all the same")
        assert await has_unread(ground, 2)
        await registry.start()
        assert await load.shop.status(Order(newer.order_id, CUSTOMER)) == "confirmed"

        async def is_put_aside() -> bool:
            return never in await stranger.letters()

        await eventually(is_put_aside, SECONDS, "what nobody was ever given is a dead letter")
        assert (await stranger.letters())[never].reason == "Undecodable"
        assert await has_unread(ground, 0)


async def has_unread(ground: Ground, count: int) -> bool:
    return await ground.rows("orders", UNREAD_RECORDS, UNREAD) == [(count, 0)]


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", services())
async def test_a_service_that_starts_without_the_registry_says_so_and_comes_up_when_it_is_there(
    ground: Ground, registry: Apicurio, service: str, seed: int
) -> None:
    async with under_load(ground, seed) as load:
        await load.accepted(FIRST_ORDERS)
        before = await ground.epochs(service)
        registry.kill()
        instance = await ground.replace(service)
        await eventually(
            lambda: '"waits_for_registry"' in instance.log_file.read_text(),
            SECONDS,
            f"{service} says what it waits for",
        )
        assert registry.address in instance.log_file.read_text()
        assert instance.is_running
        await registry.start()
        await ground.until_taken_over(service, before)


@pytest.mark.skipif(not ALL, reason="the registry that is away shows the worse: make faults")
@pytest.mark.parametrize("seed", seeds())
async def test_a_slow_registry_holds_up_nobody_but_those_who_need_it(
    ground: Ground, registry: Apicurio, seed: int
) -> None:
    stranger = Stranger(ground.stack.addresses)
    await stranger.learn()
    async with proxied(ground, REGISTRY) as (proxy, through):
        proxy.slow(SLOW_SECONDS)
        before = await ground.epochs("orders")
        await ground.replace("orders", environment=through)
        await ground.until_taken_over("orders", before)
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            newer = asked_for(load.shop.tenant)
            await stranger.send(newer.order_id.encode(), stranger.encode_newer(newer))
            await eventually(lambda: has_unread(ground, 1), SECONDS, "it waits for the registry")
            assert await load.shop.status(Order(newer.order_id, CUSTOMER)) == "confirmed"
