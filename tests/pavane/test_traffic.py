"""The traffic: bounded, followed to every order's end, measured; and it notices when nothing ends any more."""

import asyncio
import time

import pytest

from pavane.demo import traffic
from pavane.demo.plan import Order, Outcome
from pavane.demo.traffic import MOST_OPEN, Timed, Traffic
from tests.pavane.test_closing import order


class Shop:
    """Stands for gateway and log at once: takes orders, and tells their ends when it is asked."""

    def __init__(self, ends: dict[str, Outcome] | None = None) -> None:
        self.ended: dict[str, Outcome] = {}
        self.seen_at: dict[str, float] = {}
        self.cancelled: list[str] = []
        self.most_open = 0
        self._ends = ends or {}
        self._open: list[str] = []

    async def place(self, order: Order) -> None:
        self._open.append(order.id)
        self.most_open = max(self.most_open, len(self._open))

    async def cancel(self, order: Order) -> None:
        self.cancelled.append(order.id)

    async def hear(self) -> list[str]:
        await asyncio.sleep(0.001)
        ended = [each for each in self._open if self._ends.get(each) is not Outcome.DEADLINE]
        self._open = [each for each in self._open if each not in ended]
        for each in ended:
            self.ended[each] = self._ends.get(each, Outcome.CONFIRMED)
            self.seen_at[each] = time.monotonic()
        return ended


def over(orders: list[Order], shop: Shop) -> Traffic:
    return Traffic(orders, checkout=shop, outcomes=shop)  # type: ignore[arg-type]  # a shop is both


ORDERS = [order(number, 100, Outcome.CONFIRMED) for number in range(1, 1001)]


async def test_every_order_is_followed_to_its_end_and_no_more_than_the_bound_are_open() -> None:
    shop = Shop({"order-5": Outcome.OUT_OF_STOCK, "order-6": Outcome.REJECTED})
    running = over(ORDERS, shop)

    timed = await running.run()

    assert timed.ended == 1000
    assert (running.confirmed, running.cancelled, running.rejected) == (998, 1, 1)
    assert shop.most_open <= MOST_OPEN
    assert len(timed.latencies) == 998
    assert timed.first_confirmed_at == min(shop.seen_at.values())


async def test_an_order_whose_customer_changes_their_mind_is_cancelled() -> None:
    wavering = [each._replace(cancel_after_seconds=0.0) for each in ORDERS[:3]]
    shop = Shop()

    await over([*wavering, *ORDERS[3:6]], shop).run()

    assert sorted(shop.cancelled) == ["order-1", "order-2", "order-3"]


async def test_when_no_order_ends_any_more_it_says_which_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "STUCK_SECONDS", 0.05)
    shop = Shop({"order-2": Outcome.DEADLINE})

    with pytest.raises(ExceptionGroup) as stuck:
        await over(ORDERS[:3], shop).run()

    assert stuck.group_contains(TimeoutError, match="1 are under way, the first is order-2")


def test_percentiles_are_latencies_that_were_seen() -> None:
    timed = Timed(1.0, 100, [number / 100 for number in range(1, 101)], None)

    assert (timed.percentile(0.5), timed.percentile(0.99)) == (0.5, 0.99)
    assert Timed(1.0, 0, [], None).percentile(0.99) == 0.0
