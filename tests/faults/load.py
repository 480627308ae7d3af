"""Orders with all endings mixed, while something breaks. Which order is what follows from the printed seed."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar
from uuid import uuid4

import httpx
import psycopg

from streams.kit.shop import NotServed, Order, Shop

TILLS = 12
#: Orders that were accepted and have not ended; more would only wait in the log.
MOST_OPEN = 150
BETWEEN_LOOKS_SECONDS = 0.1
#: So long a till rests between two orders beyond the least number: faults that last are met by a steady flow.
REST_SECONDS = 0.4
#: No order ends for so long, though nothing is broken any more.
STUCK_SECONDS = 60.0
#: A customer who is given no answer, or told that there can be none now, asks again after so long.
ASKS_AGAIN_SECONDS = 0.5
#: What the gateway answers while it does not know yet, or cannot tell.
NOT_NOW = frozenset({409, 503})
#: A cancellation is also asked again while nobody has heard of the order.
NOT_KNOWN_YET = frozenset({404})
RARE_PIECES = 5
#: A wish to cancel comes when so many more orders were accepted: at any step of the saga, and sometimes too late.
CANCELLED_WITHIN_ORDERS = 40

ENDED = """
    SELECT order_id, CASE status WHEN 'cancelled' THEN reason ELSE upper(status) END
      FROM orders WHERE tenant = %s AND status <> 'placed'
"""
CONFIRMED, REJECTED = "CONFIRMED", "REJECTED"
T = TypeVar("T")


class Kind(NamedTuple):
    """Orders of one kind: how many of a hundred, what they ask for, and every end that they may come to."""

    share: int
    ends: frozenset[str]
    sku: str = "lamp"
    method: str = "ok"
    country: str = "DE"
    is_cancelled: bool = False


KINDS: Mapping[str, Kind] = {
    "plain": Kind(48, frozenset({CONFIRMED})),
    "free": Kind(6, frozenset({CONFIRMED}), sku="leaflet"),
    "declined": Kind(10, frozenset({"PAYMENT_DECLINED"}), method="declined"),
    "declined-at-capture": Kind(8, frozenset({"PAYMENT_DECLINED"}), method="declined-at-capture"),
    "refused": Kind(8, frozenset({"NOT_SHIPPABLE"}), country="XX"),
    "scarce": Kind(8, frozenset({CONFIRMED, "OUT_OF_STOCK"}), sku="rare"),
    "unknown": Kind(2, frozenset({REJECTED}), sku="nothing"),
    "cancelled": Kind(10, frozenset({CONFIRMED, "CUSTOMER"}), is_cancelled=True),
}


class Load:
    """A shop's orders: at least `orders` of them, and more for as long as the faults last (`until`).

    `ended`: how each order ended: `CONFIRMED`, `REJECTED`, or why it was cancelled. `asked_again`: how often the
    gateway gave no answer, or none for now; a customer then asks again under the same key.
    """

    def __init__(self, shop: Shop, orders_url: str, seed: int, orders: int) -> None:
        self.kinds: dict[str, str] = {}
        self.ended: dict[str, str] = {}
        self.seconds_to_last_end = 0.0
        self.asked_again = 0
        #: Ends that the faults of this test may bring about, for orders of any kind.
        self.allowed_ends: frozenset[str] = frozenset()
        self.shop = shop
        self._orders_url = orders_url
        self._seed = seed
        self._least = orders
        self._faults_are_over = asyncio.Event()
        self._changed = asyncio.Condition()
        self._tills: list[asyncio.Task[None]] = []

    @property
    def placed(self) -> int:
        """How many orders the gateway has accepted."""
        return len(self.kinds)

    def faults_are_over(self) -> None:
        """Whatever was broken works again, or will by itself: no order beyond the least number is placed any more."""
        self._faults_are_over.set()

    async def accepted(self, orders: int) -> None:
        """Return when so many orders were accepted."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.placed >= orders)

    def goes_on_at(self, shop: Shop, orders_url: str) -> None:
        """The same shop, reached in another way from now on: everything was started again elsewhere."""
        self.shop, self._orders_url = shop, orders_url

    async def run(self) -> None:
        """Sell, and return when every order has ended. `TimeoutError` when none ends any more."""
        await self._open_shop()
        begun = time.monotonic()
        numbers = iter(range(10**9))
        async with asyncio.TaskGroup() as group:
            self._tills = [group.create_task(self._serve(numbers, group)) for _ in range(TILLS)]
            group.create_task(self._follow())
        self.seconds_to_last_end = time.monotonic() - begun

    def wrong_ends(self) -> list[str]:
        """Orders that ended as none of their kind may."""
        return [
            f"order {order_id} ({kind}) ended as {self.ended.get(order_id)}"
            for order_id, kind in self.kinds.items()
            if self.ended.get(order_id) not in KINDS[kind].ends | self.allowed_ends
        ]

    def told(self) -> str:
        """What came of it, in one line."""
        ends = ", ".join(f"{count} {end}" for end, count in sorted(Counter(self.ended.values()).items()))
        return f"seed {self._seed}: {self.placed} orders ended in {self.seconds_to_last_end:.1f} s: {ends}"

    # -- selling ------------------------------------------------------------------------------------------------------

    async def _open_shop(self) -> None:
        for sku, price in {"lamp": 1999, "rare": 990, "leaflet": 0}.items():
            await self.shop.price(sku, price)
        for sku, pieces in {"lamp": 1_000_000, "rare": RARE_PIECES, "leaflet": 1_000_000}.items():
            await self.shop.receive(sku, pieces)

    async def _serve(self, numbers: Iterator[int], group: asyncio.TaskGroup) -> None:
        """One till: takes the next order when there is room for it."""
        while self.placed < self._least or not self._faults_are_over.is_set():
            luck = random.Random(f"{self._seed}/{next(numbers)}")
            name = luck.choices(list(KINDS), [kind.share for kind in KINDS.values()])[0]
            kind = KINDS[name]
            order = await self._place(kind, luck.randint(1, 3))
            async with self._changed:
                self.kinds[order.id] = name
                self._changed.notify_all()
            if kind.is_cancelled:
                group.create_task(self._cancel(order, self.placed + luck.randrange(CANCELLED_WITHIN_ORDERS)))
            async with self._changed:
                await self._changed.wait_for(self._has_room)
            if self.placed >= self._least:
                await asyncio.sleep(REST_SECONDS)

    async def _place(self, kind: Kind, quantity: int) -> Order:
        key = uuid4().hex
        return await self._patiently(
            lambda: self.shop.place(kind.sku, quantity, method=kind.method, country=kind.country, key=key), NOT_NOW
        )

    def _has_room(self) -> bool:
        return self.placed - len(self.ended) < MOST_OPEN

    async def _cancel(self, order: Order, when_accepted: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.placed >= min(when_accepted, self._least) or self._is_over())
        await self._patiently(lambda: self.shop.cancel(order), NOT_NOW | NOT_KNOWN_YET)

    def _is_over(self) -> bool:
        return self._faults_are_over.is_set() and self.placed >= self._least

    async def _patiently(self, ask: Callable[[], Awaitable[T]], not_now: frozenset[int]) -> T:
        """Ask until there is an answer other than `not_now`, or none for too long."""
        deadline = time.monotonic() + STUCK_SECONDS
        while True:
            try:
                return await ask()
            except (httpx.TransportError, NotServed) as error:
                is_final = isinstance(error, NotServed) and error.status not in not_now
                if is_final or time.monotonic() > deadline:
                    raise
            self.asked_again += 1
            await asyncio.sleep(ASKS_AGAIN_SECONDS)

    # -- following ----------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Look how the orders end, until the last one has."""
        last = time.monotonic()
        async for ended in self._looks():
            if ended is not None and (len(ended) > len(self.ended) or not self._faults_are_over.is_set()):
                last = time.monotonic()
            if time.monotonic() - last > STUCK_SECONDS:
                raise TimeoutError(f"no order has ended for {STUCK_SECONDS:.0f} s: {self._open_orders()}")
            if ended is not None:
                async with self._changed:
                    self.ended = ended
                    self._changed.notify_all()
            # A till may still ask for an answer to an order that is long placed.
            if all(till.done() for till in self._tills) and self.kinds.keys() <= self.ended.keys():
                return
            await asyncio.sleep(BETWEEN_LOOKS_SECONDS)

    async def _looks(self) -> AsyncIterator[dict[str, str] | None]:
        """How the orders have ended, asked of the database again and again; None while that is away."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._orders_url, autocommit=True) as connection:
                    while True:
                        cursor = await connection.execute(ENDED, (self.shop.tenant,))
                        yield dict(await cursor.fetchall())
            except psycopg.OperationalError:
                yield None

    def _open_orders(self) -> str:
        still = [order_id for order_id in self.kinds if order_id not in self.ended]
        return f"{len(still)} are open, the first is {still[0] if still else 'none'}"
