"""Half of all requests are retries, while Redis is flushed and killed again and again: exactly the right orders."""

import asyncio
import random
from collections import Counter
from typing import NamedTuple
from uuid import uuid4

import httpx
import pytest

from api.idempotency import name_of
from infra.stack import Stack
from streams.kit.shop import Shop, order_body
from tests.faults.harness import ALL, SETTLED_SECONDS, Ground, audited_at_rest, seeds
from tests.faults.test_redis_server import flushed
from tests.faulty_valkey import Fault, FaultyValkey
from tests.waiting import eventually

REQUESTS = 10_000 if ALL else 400
FAULTS: list[Fault] = [flushed, FaultyValkey.killed]
AT_ONCE = 24
PATIENCE_SECONDS = 240.0
PAUSE_SECONDS = 0.2
COUNT = "SELECT count(*), 0 FROM orders WHERE tenant = %s"
pytestmark = pytest.mark.timeout(540)


class Request(NamedTuple):
    """One request: under which key, and for how much; a retry is equal to its first."""

    key: str
    quantity: int


@pytest.mark.parametrize("seed", seeds())
async def test_every_key_names_one_order_however_often_it_is_sent_and_whatever_redis_forgets(
    ground: Ground, seed: int
) -> None:
    if ground.stack.valkey is None:
        pytest.skip("the server is not ours to break")
    chance = random.Random(seed)
    shop = Shop(ground.http, ground.platform.issuer, f"shop-{uuid4().hex[:10]}", PATIENCE_SECONDS)
    await shop.price("lamp", 100)
    await shop.receive("lamp", 10 * REQUESTS)
    firsts = [Request(f"key-{number}", chance.randrange(1, 4)) for number in range(REQUESTS // 2)]
    requests = firsts * 2
    chance.shuffle(requests)

    answers, faults = await _asked_meanwhile_broken(ground.stack, shop, requests, chance)

    assert set(faults) == {fault.__name__ for fault in FAULTS}, "not every fault has happened"
    assert answers["replayed"] > 0, "Redis never knew a key"
    assert answers["anew"] > len(firsts), "Redis never forgot a key that was sent again"
    orders = ground.stack.addresses.postgres["orders"]
    wanted = [(len(firsts), 0)]
    await eventually(lambda: _is(ground, shop, wanted), SETTLED_SECONDS, f"{len(firsts)} orders in {orders}")
    await audited_at_rest(ground.stack.addresses)
    assert await ground.rows("orders", COUNT, shop.tenant) == wanted
    await _quantities_are_right(ground, shop, firsts)
    print(f"\nseed {seed}: {len(requests):,} requests, {dict(answers)}, {dict(faults)}")  # noqa: T201


async def _asked_meanwhile_broken(
    stack: Stack, shop: Shop, requests: list[Request], chance: random.Random
) -> tuple[Counter[str], Counter[str]]:
    """How often a request was answered anew or by a kept answer, and which faults happened meanwhile."""
    assert stack.valkey is not None
    valkey, answers, faults = FaultyValkey(stack.valkey), Counter[str](), Counter[str]()
    waiting = iter(requests)

    async def customer() -> None:
        for request in waiting:
            answers[await _sent(shop, request)] += 1

    async def breaks() -> None:
        while True:
            fault = FAULTS[faults.total() % len(FAULTS)]
            enough = answers.total() + chance.randrange(REQUESTS // 20, REQUESTS // 10)
            await eventually(lambda enough=enough: answers.total() >= enough, PATIENCE_SECONDS, "more are answered")
            await fault(valkey)
            faults[fault.__name__] += 1
            await valkey.well()

    breaking = asyncio.create_task(breaks())
    try:
        await asyncio.gather(*(customer() for _ in range(AT_ONCE)))
    finally:
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)
        await valkey.well()
        await valkey.redis.aclose()
    return answers, faults


async def _sent(shop: Shop, request: Request) -> str:
    """The request is accepted, asked again while it is refused for now; it names the order that it always names."""
    body = order_body([("lamp", request.quantity)], "card-ok", "DE", "EUR")
    while True:
        try:
            answer = await shop.ask("POST", "/v1/orders", customer="customer-1", key=request.key, body=body)
        except httpx.TransportError:
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        if answer.status_code in (409, 503):
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        assert answer.status_code == 202, answer.text
        assert answer.json()["order_id"] == name_of(shop.tenant, request.key)
        return "replayed" if answer.headers.get("idempotency-replayed") == "true" else "anew"


async def _is(ground: Ground, shop: Shop, wanted: list[tuple[int, int]]) -> bool:
    return await ground.rows("orders", COUNT, shop.tenant) == wanted


async def _quantities_are_right(ground: Ground, shop: Shop, firsts: list[Request]) -> None:
    """Each order is for what was asked under its key: the goods that are gone are the sum."""
    stock = await shop.stock("lamp")
    assert (stock.dispatched, stock.reserved) == (sum(first.quantity for first in firsts), 0)
    query = "SELECT count(*), coalesce(sum(amount_minor), 0)::bigint FROM orders WHERE tenant = %s AND status = %s"
    total = 100 * sum(first.quantity for first in firsts)
    assert await ground.rows("orders", query, shop.tenant, "confirmed") == [(len(firsts), total)]
