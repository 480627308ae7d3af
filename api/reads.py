"""Orders, stock and prices as they are shown: from the cache, or from the timeline with one query for all who ask.

Whoever asks for the same at the same time shares one reading, in this gateway and, by a lease, among all. What was
asked for lately is watched: every `LOOK_SECONDS` two or three queries tell which of it the facts have changed, and it
is outdated before anybody who listens is told. So an answer is that much behind the timeline at most, and `FRESH_MS`
if the gateway that watched it has just died. While the timeline's database is away, what is in the cache is still
shown, for half a minute at most. Without Redis everybody's reading is shared in this gateway alone.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from api.answers import Order, Price, Stock
from api.cache import Cache, CacheAway, Found, Name, State, new_token
from api.errors import Unavailable
from api.telemetry import CACHE
from api.timeline import ORDER, PRICE, STOCK, Timeline, Told
from api.watched import Watched
from streams.kit.calling_off import called_off
from streams.kit.logs import logger

LOOK_SECONDS = 0.15
AWAY_SECONDS = 1.0
WAIT_SECONDS = 0.25
WAIT_LOOK_SECONDS = 0.01
MOST_WARMED = 200
WARMED_AT_ONCE = 4

KINDS = (ORDER, STOCK, PRICE)


class Reads:
    """All raise `Unavailable`. Without a cache (`None`) everything is read from the timeline."""

    def __init__(self, timeline: Timeline, cache: Cache | None = None) -> None:
        self._timeline = timeline
        self._cache = cache
        self._flights: dict[Name, asyncio.Task[bytes | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watched = Watched()
        #: What is older may be outdated without the cache knowing it, as it was away then.
        self._least = ""
        self._away_until = 0.0
        self._warm = asyncio.Event()

    async def order(self, order_id: str, tenant: str, customer: str) -> Order | None:
        """The order's story, if it is that customer's and was heard of."""
        if self._cache is None:
            return await self._timeline.order(order_id, tenant, customer)
        body = await self._read(Name(ORDER, (order_id, tenant, customer)))
        return None if body is None else Order.model_validate_json(body)

    async def stock(self, tenant: str, sku: str) -> Stock | None:
        """What is on the shelf."""
        if self._cache is None:
            return await self._timeline.stock(tenant, sku)
        body = await self._read(Name(STOCK, (tenant, sku)))
        return None if body is None else Stock.model_validate_json(body)

    async def price(self, tenant: str, sku: str) -> Price | None:
        """What one piece costs."""
        if self._cache is None:
            return await self._timeline.price(tenant, sku)
        body = await self._read(Name(PRICE, (tenant, sku)))
        return None if body is None else Price.model_validate_json(body)

    # -- running -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to warm the cache and to watch; returns at once."""
        if self._cache is not None:
            self._keep(self._watch(), "watch")
            self._keep(self._warmed(self._cache), "warming")

    async def close(self) -> None:
        await called_off(*self._tasks)
        if self._cache is not None:
            await self._cache.close()

    async def reachable(self) -> None:
        """Raises when the timeline cannot be read, or when what is asked for often is not in the cache yet."""
        await self._timeline.reachable()
        if self._cache is not None and not self._warm.is_set():
            raise ConnectionError("the cache is being warmed")

    async def told(self, facts: Iterable[Told]) -> None:
        """These orders have changed: call it before anybody is told."""
        changed: defaultdict[str, set[Name]] = defaultdict(set)
        for fact in facts:
            name = Name(ORDER, (fact.order_id, fact.tenant, fact.customer))
            if name in self._watched:
                changed[fact.version].add(name)
        for version, names in changed.items():
            await self._outdate(list(names), version)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, name: Name) -> bytes | None:
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = self._keep(self._fly(name), "read")
            flight.add_done_callback(lambda done: self._landed(name, done))
        # Shielded: many may wait for one reading, and any of them may go away.
        return await asyncio.shield(flight)

    def _landed(self, name: Name, flight: "asyncio.Task[bytes | None]") -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]

    async def _fly(self, name: Name) -> bytes | None:
        is_unchanged = self._watched.is_marked(name)
        if not self._watched.add(name):
            return await self._load(name, new_token(), "unwatched")
        token = new_token()
        found = await self._look(name, token)
        if found is None:
            return await self._load(name, None, "away")
        if not found.body:
            return await self._load(name, token, "loaded")
        if found.state is not State.FRESH and not is_unchanged:
            # Nobody has looked after it: it may have changed long ago. Better than nothing, and nothing more.
            with contextlib.suppress(Unavailable):
                return await self._load(name, token, "loaded")
        elif found.state is State.REVALIDATE:
            self._keep(self._revalidate(name, token), "revalidate")
        CACHE.labels(name.kind, "fresh" if found.state is State.FRESH else "stale").inc()
        self._watched.mark(name, found.mark)
        return found.body

    async def _look(self, name: Name, token: str) -> Found | None:
        """What the cache has, after a while for somebody else's reading to come; None: the cache is away."""
        if self._cache is None or time.monotonic() < self._away_until:
            return None
        until = time.monotonic() + WAIT_SECONDS
        try:
            while True:
                found = await self._cache.look(name, token, self._least)
                if found.state is not State.WAIT or time.monotonic() > until:
                    return found
                await asyncio.sleep(WAIT_LOOK_SECONDS)
        except CacheAway as error:
            self._lost(error)
            return None

    async def _load(self, name: Name, token: str | None, outcome: str) -> bytes | None:
        """Read it, and keep it if there is a `token` for that."""
        try:
            reading = await self._timeline.reading(name)
        except Unavailable:
            await self._try(lambda cache: cache.release(name, token or ""), token)
            raise
        CACHE.labels(name.kind, outcome if reading else "none").inc()
        if reading is None:
            self._watched.drop(name)
            await self._try(lambda cache: cache.release(name, token or ""), token)
            return None
        # First what changed with it: who has seen this order sees no older stock of its items.
        await self._outdate(reading.touches, reading.version)
        kept = await self._try(lambda cache: cache.keep(name, token or "", reading), token)
        if kept is None:
            # It is seen now, and the cache may hold an older one for when it is back.
            self._least = max(self._least, reading.version)
        elif kept:
            self._watched.mark(name, reading.mark)
        return reading.body

    async def _revalidate(self, name: Name, token: str) -> None:
        # Away: told by the timeline; what is stale is given out until it ends.
        with contextlib.suppress(Unavailable):
            await self._load(name, token, "revalidated")

    # -- watching ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                await self._round()
            except Unavailable:
                await asyncio.sleep(AWAY_SECONDS)
            except Exception:
                logger().exception("watch_failed", consequence="what is cached is shown until it is stale")
                await asyncio.sleep(AWAY_SECONDS)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    async def _round(self) -> None:
        """Outdate what is not as it was read. Orders first: whose stock has changed with them is then seen as well."""
        self._watched.drop_old()
        changed: list[tuple[str, list[Name]]] = []
        for kind in KINDS:
            if names := self._watched.of(kind):
                version, marks = await self._timeline.marks(kind, names)
                changed.append((version, self._watched.changed(names, marks)))
        for version, names in changed:
            await self._outdate(names, version)

    async def _outdate(self, names: Sequence[Name], version: str) -> None:
        if not names:
            return
        for name in names:
            # Who asks from now on must not get a reading that began before.
            self._flights.pop(name, None)
            if self._watched.is_marked(name):
                self._watched.drop(name)
        if await self._try(lambda cache: cache.outdate(names, version)) is None:
            self._least = max(self._least, version)

    # -- the cache may be away ---------------------------------------------------------------------------------------

    async def _try(self, call: Callable[[Cache], Awaitable[Any]], token: str | None = "") -> Any:
        """What the cache says; None when it is away, or nothing is to be said without a `token`."""
        if self._cache is None or token is None or time.monotonic() < self._away_until:
            return None
        try:
            return await call(self._cache)
        except CacheAway as error:
            self._lost(error)
            return None

    def _lost(self, error: CacheAway) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS
        logger().warning("redis_away", consequence="orders and items are read from the database", error=str(error))

    async def _warmed(self, cache: Cache) -> None:
        """Read what all gateways were asked for lately; then this one is ready."""
        places = asyncio.Semaphore(WARMED_AT_ONCE)

        async def warm(name: Name) -> None:
            async with places:
                try:
                    await self._load(name, new_token(), "warmed")
                except Unavailable:
                    raise
                except Exception:
                    logger().exception("warming_failed", kind=name.kind, consequence="it is read when it is asked for")

        while True:
            try:
                names = [name for kind in KINDS for name in await cache.known(kind, MOST_WARMED)]
                await asyncio.gather(*(warm(name) for name in names))
            except CacheAway as error:
                self._lost(error)
            except Unavailable:
                await asyncio.sleep(AWAY_SECONDS)
                continue
            self._warm.set()
            return

    def _keep(self, work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work, name=f"{name} of reads")
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Whoever waited for it has it too; nobody may have.
            task.exception()
