"""Drives orders through the gateway, a bounded number at once, until each has ended."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from pavane.demo.checkout import Checkout
from pavane.demo.outcomes import Outcomes
from pavane.demo.plan import Order, Outcome

TILLS = 16
#: Some more than tills, so that a cancellation need not queue behind orders.
CONNECTIONS = TILLS + 4
#: Orders that were accepted and have not ended. More would only wait longer in the log.
MOST_OPEN = 256
#: No order ends for so long: something is broken, or far too slow.
STUCK_SECONDS = 60.0


class Timed(NamedTuple):
    """What was measured of one run, by this process's clock. Latency: from the gateway's 202 to the fact heard."""

    seconds: float
    ended: int
    latencies: Sequence[float]
    #: When the first order was seen confirmed (monotonic clock); None when none was.
    first_confirmed_at: float | None

    def percentile(self, share: float) -> float:
        """The latency that `share` of the orders did not exceed, seconds."""
        return sorted(self.latencies)[max(0, round(share * len(self.latencies)) - 1)] if self.latencies else 0.0


class Traffic:
    """One run over `orders`, in their order. `on_change` is called some times a second."""

    def __init__(
        self,
        orders: Sequence[Order],
        checkout: Checkout,
        outcomes: Outcomes,
        on_change: Callable[["Traffic"], None] = lambda traffic: None,
    ) -> None:
        self.placed = 0
        self.ended: dict[str, Outcome] = {}
        self._counts: Counter[Outcome] = Counter()
        self._orders = {order.id: order for order in orders}
        self._checkout = checkout
        self._outcomes = outcomes
        self._on_change = on_change
        self._open = asyncio.Semaphore(MOST_OPEN)
        self._accepted_at: dict[str, float] = {}

    @property
    def confirmed(self) -> int:
        return self._counts[Outcome.CONFIRMED]

    @property
    def rejected(self) -> int:
        return self._counts[Outcome.REJECTED]

    @property
    def cancelled(self) -> int:
        return len(self.ended) - self.confirmed - self.rejected

    async def run(self) -> Timed:
        """Place all orders and follow them to their ends. `TimeoutError` when none ends for a long time."""
        begun = time.monotonic()
        waiting = iter(self._orders.values())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            for _ in range(TILLS):
                group.create_task(self._serve(waiting, group))
        return self._timed(begun)

    async def _serve(self, waiting: Iterator[Order], group: asyncio.TaskGroup) -> None:
        """One till: takes the next order when there is room for it."""
        while True:
            await self._open.acquire()
            order = next(waiting, None)
            if order is None:
                self._open.release()
                return
            await self._checkout.place(order)
            self._accepted_at[order.id] = time.monotonic()
            self.placed += 1
            if order.cancel_after_seconds is not None:
                group.create_task(self._change_of_mind(order, order.cancel_after_seconds))

    async def _change_of_mind(self, order: Order, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        await self._checkout.cancel(order)

    async def _follow(self) -> None:
        last = time.monotonic()
        while len(self.ended) < len(self._orders):
            for order_id in await self._outcomes.hear():
                if order_id in self._orders:
                    last = time.monotonic()
                    self.ended[order_id] = outcome = self._outcomes.ended[order_id]
                    self._counts[outcome] += 1
                    self._open.release()
            self._on_change(self)
            if time.monotonic() - last > STUCK_SECONDS:
                raise TimeoutError(self._stuck())

    def _stuck(self) -> str:
        still = [order_id for order_id in self._accepted_at if order_id not in self.ended]
        return (
            f"No order has ended for {STUCK_SECONDS:.0f} seconds; {len(still):,} are under way, the first is "
            f"{still[0] if still else 'not yet accepted'}. The services' logs are in the data folder under logs/."
        )

    def _timed(self, begun: float) -> Timed:
        seen = self._outcomes.seen_at
        confirmed = [each for each, outcome in self.ended.items() if outcome is Outcome.CONFIRMED and each in seen]
        # An end can be heard before the answer of the gateway: it took no time that could be measured.
        latencies = [max(0.0, seen[each] - self._accepted_at[each]) for each in confirmed if each in self._accepted_at]
        first = min((seen[each] for each in confirmed), default=None)
        return Timed(time.monotonic() - begun, len(self.ended), latencies, first)
