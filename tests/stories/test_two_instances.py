"""Two processes of every service share its lanes; one is killed and one falls silent while orders flow."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterable

from infra import topics
from pavane.instance import Instance
from pavane.platform import Platform
from streams.kit.run import services
from streams.kit.shop import Order
from streams.kit.testing import Shop
from tests.stories.conftest import NewShop
from tests.stories.records import BOOKED, HELD, Records
from tests.stories.silence import fall_silent
from tests.waiting import eventually

LANES = set(range(topics.load()[0].partitions))
ORDERS = 200
#: How many of them have been accepted when the faults begin: the others come later.
BEFORE_THE_FAULTS = 60
TILLS = 12


async def lanes(instance: Instance) -> set[int]:
    health = await instance.health()
    return set() if health is None else set(health["lanes"])


async def each_holds_half(pair: tuple[Instance, Instance]) -> bool:
    first, second = [await lanes(instance) for instance in pair]
    return first | second == LANES and not first & second and abs(len(first) - len(second)) <= 1


async def start_second_instances(platform: Platform) -> dict[str, tuple[Instance, Instance]]:
    """Both processes of every service, once they share its lanes."""
    names = services()
    first = {name: platform.children[name][-1] for name in names}
    second = await asyncio.gather(*(platform.start(name) for name in names))
    pairs = {name: (first[name], new) for name, new in zip(names, second, strict=True)}
    for name, pair in pairs.items():
        await eventually(lambda pair=pair: each_holds_half(pair), 30, f"{name}: both hold lanes")
    return pairs


class Sale:
    """Customers at several tills; every tenth card is declined, and as many parcels go where no carrier goes."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.orders: dict[int, Order] = {}
        self.underway = asyncio.Event()

    async def run(self) -> None:
        waiting = iter(range(ORDERS))
        async with asyncio.TaskGroup() as group:
            for _ in range(TILLS):
                group.create_task(self._serve(waiting))

    async def _serve(self, waiting: Iterable[int]) -> None:
        for number in waiting:
            method = "declined" if number % 10 == 0 else "ok"
            country = "XX" if number % 10 == 5 else "DE"
            self.orders[number] = await self.shop.place(sku="lamp", method=method, country=country)
            if len(self.orders) == BEFORE_THE_FAULTS:
                self.underway.set()


async def test_a_killed_and_a_silent_owner_lose_and_double_nothing(
    platform: Platform, new_shop: NewShop, records: Records
) -> None:
    shop = new_shop(patience_seconds=60.0)
    await shop.price("lamp", 1999)
    await shop.receive("lamp", ORDERS)
    pairs = await start_second_instances(platform)
    (billing, killed), (silent, inventory) = pairs["billing"], pairs["inventory"]
    lost = {"billing": await lanes(killed), "inventory": await lanes(silent)}
    before = {name: await records.epochs(name) for name in lost}

    sale = Sale(shop)
    selling = asyncio.create_task(sale.run())
    try:
        await asyncio.wait_for(sale.underway.wait(), 30)
        killed.kill()
        assert killed.child.poll() == -signal.SIGKILL
        await fall_silent(silent)
        await eventually(lambda: records.open_orders(shop.tenant), 5, "orders that the faults have caught")
        for name, survivor in (("billing", billing), ("inventory", inventory)):
            await eventually(lambda it=survivor: holds_all(it), 40, f"{name}: all lanes held by the survivor")
    finally:
        silent.thaw()
    await selling
    for name, taken in lost.items():
        after = await records.epochs(name)
        assert all(after[lane] > before[name][lane] for lane in taken), f"{name}: nobody took over"
    await each_order_ended_as_it_should(sale, records)
    await eventually(lambda: each_holds_half((silent, inventory)), 30, "the silent one takes its share again")


async def holds_all(instance: Instance) -> bool:
    return await lanes(instance) == LANES


async def each_order_ended_as_it_should(sale: Sale, records: Records) -> None:
    endings = {number: await sale.shop.settled(order) for number, order in sale.orders.items()}
    reasons = Counter(ending.reason for ending in endings.values())
    assert reasons == {"": 160, "PAYMENT_DECLINED": 20, "NOT_SHIPPABLE": 20}
    assert all(len(ending.facts) == len(set(ending.facts)) for ending in endings.values()), "a fact was said twice"
    assert await sale.shop.stock("lamp") == (ORDERS - 160, 0, 160)
    confirmed = {sale.orders[number].id for number, ending in endings.items() if ending.status == "confirmed"}
    assert await records.captures(list(sale.orders.values())) == dict.fromkeys(confirmed, 1)
    for number, ending in endings.items():
        if ending.status == "cancelled":
            assert await records.payment(sale.orders[number]) not in HELD
            assert await records.parcel(sale.orders[number]) not in BOOKED
