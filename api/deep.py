"""A round trip through all that a gateway stands on, as a customer's request takes it.

A price is set of an item that nobody sells, for a tenant that no token can name: the request goes onto the log,
`orders` hears it and says `PriceSet`, the timeline hears that, and here it is read from the timeline's database. Beside
it something is written to Redis and read back. All parts have `PATIENCE_SECONDS`; a round trip is made every
`KEEP_SECONDS` at most, however often it is asked for, as its two records stay in the log.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from api.answers import Deep
from api.correlation import new_id
from api.errors import Problem
from api.events import SetPrice
from api.idempotency import Idempotency
from api.log import RequestLog
from api.timeline import Timeline
from streams.kit.logs import logger
from streams.kit.money import Money

TENANT = "_gateway"
"""Tenants of tokens begin with a letter or a digit."""
ITEMS = 16
"""So many items, so that every lane has its turn."""
CURRENCY = "XTS"
"""For tests, by ISO 4217."""
MOST_MINOR = 10**9
PATIENCE_SECONDS = 5.0
KEEP_SECONDS = 5.0
LOOK_SECONDS = 0.05


class RoundTrip:
    """Makes round trips, one at a time."""

    def __init__(self, log: RequestLog, timeline: Timeline, idempotency: Idempotency) -> None:
        self._log = log
        self._timeline = timeline
        self._idempotency = idempotency
        self._found = Deep(status="unready", seconds={}, missing={})
        self._at = float("-inf")
        self._turn = asyncio.Lock()
        self._acknowledged = asyncio.Event()

    async def made(self) -> Deep:
        """How the last round trip went; a new one, if that is long ago."""
        async with self._turn:
            if time.monotonic() - self._at >= KEEP_SECONDS:
                self._found = await self._make()
                self._at = time.monotonic()
        return self._found

    async def _make(self) -> Deep:
        self._acknowledged.clear()
        sku, price = f"probe-{random.randrange(ITEMS)}", random.randrange(1, MOST_MINOR)
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "redis": self._idempotency.round_trip,
            "log": lambda: self._append(sku, price),
            "orders, timeline and database": lambda: self._until_read(sku, price),
        }
        took = await asyncio.gather(*(_seconds(name, part) for name, part in parts.items()))
        seconds = {name: took for name, took in zip(parts, took, strict=True) if took is not None}
        missing = {name: f"no round trip within {PATIENCE_SECONDS:g} s" for name in parts if name not in seconds}
        return Deep(status="unready" if missing else "ready", seconds=seconds, missing=missing)

    async def _append(self, sku: str, price: int) -> None:
        money = Money(amount_minor=price, currency=CURRENCY)
        request_id = new_id()
        request = SetPrice(tenant=TENANT, sku=sku, price=money, request_id=request_id)
        await self._log.append(request, request_id, None)
        self._acknowledged.set()

    async def _until_read(self, sku: str, price: int) -> None:
        await self._acknowledged.wait()
        while True:
            found = await self._timeline.price(TENANT, sku)
            if found is not None and found.amount_minor == price:
                return
            await asyncio.sleep(LOOK_SECONDS)


async def _seconds(name: str, part: Callable[[], Awaitable[None]]) -> float | None:
    """How long it took; None: it failed, or took too long. The log says why."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await part()
    except (Problem, OSError, TimeoutError) as error:
        logger().warning("no_round_trip", part=name, error=repr(error))
        return None
    except Exception:
        # Whatever a client library raises, the part cannot be used: that is the answer.
        logger().exception("no_round_trip", part=name)
        return None
    return round(time.monotonic() - began, 4)
