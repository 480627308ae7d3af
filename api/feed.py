"""What happens to orders, as it happens: one reader of the timeline for everybody who listens at this gateway.

While anybody listens, the reader asks the timeline every `PAUSE_SECONDS` what was told since, lane by lane, and hands
each fact to those whose order it is about. It reads with two statements a round, however many listen. A listener has a
bounded queue; whoever is too slow is told so, and goes on from the timeline later. A long round gives way to those who
read.

A lane's position is the ordinal of the last fact that it has been told. What is told between the two statements of a
round lies above it, and is remembered by id until the lane has passed it: nothing is told twice, and nothing left out.
When other tables took the place of the timeline's, ordinals count anew: whoever listens is let go.
"""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from api.errors import Overloaded, TooManyStreams, Unavailable
from api.telemetry import LISTENERS, OVERRUN
from api.timeline import Heads, Timeline, Told
from streams.kit.calling_off import called_off
from streams.kit.logs import logger

PAUSE_SECONDS = 0.15
AWAY_SECONDS = 1.0
MOST_AT_ONCE = 1_000
"""Facts of a lane that are read at once."""
MOST_QUEUED = 256
"""Facts that wait for one listener."""
MOST_IN_A_ROW = 100
"""Facts that are told before those who listen have their turn: together with half a queue they fill none."""
MOMENT_SECONDS = 0.01
"""How long, when somebody's queue is filling; in a round `PAUSE_SECONDS` at most, as others wait."""
MOST_LISTENERS = 6_000
MOST_WAITING = 500
"""Requests that wait for a change at once; each holds the place of a request under way."""
MOST_WAITING_OF_ONE = 50
MOST_OF_ONE = 1_000
"""Listeners of one customer: shops and marketplaces listen for many buyers under one name."""
SHARE_OF_A_TENANT = 5
"""A tenant's listeners are at most so many times the places that are left, so that some always are (dynamic thresholds;
Choudhury and Hahne 1998). Alone it comes to five sixths of all, two come to 2,727 each, and nobody has to say how many
tenants there are."""


class Heard(NamedTuple):
    """A fact for those who listen. `positions`: how far each lane was told when this was, for going on from here."""

    told: Told
    positions: Mapping[int, int]


class Listener:
    """Hears what is told about the orders of one customer, or about one of them. Used in a `with` block.

    `since`: up to which ordinal of each lane everything was told before; facts above it that were told are few.
    """

    def __init__(self, feed: "Feed", about: tuple[str, ...], since: Heads) -> None:
        self._feed = feed
        self.about = about
        self.since = since
        self._queue: asyncio.Queue[Heard | None] = asyncio.Queue(MOST_QUEUED)
        self.overrun = False

    @property
    def is_filling(self) -> bool:
        """Half of what it may have waiting does."""
        return self._queue.qsize() > MOST_QUEUED // 2

    async def next(self) -> Heard | None:
        """The next fact; None: there will be none, as this listener was too slow or the gateway ends."""
        return await self._queue.get()

    def told_up_to(self) -> Heads | None:
        """Up to where it was told everything and has taken it; None while something waits here."""
        return self._feed.told_up_to() if self._queue.empty() else None

    def tell(self, heard: Heard) -> None:
        if self.overrun:
            return
        if self._queue.full():
            self.overrun = True
            OVERRUN.inc()
            self.hang_up()
        else:
            self._queue.put_nowait(heard)

    def hang_up(self) -> None:
        """What still waits is let go, since it can be heard again."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._feed.forget(self)


class Feed:
    """The one reader. It begins with the first listener and rests when the last one has gone."""

    def __init__(self, timeline: Timeline, before: Callable[[list[Told]], Awaitable[None]]) -> None:
        """`before` is given the facts of each round, and waited for, before anybody is told."""
        self._timeline = timeline
        self._before = before
        self._listeners: dict[tuple[str, ...], set[Listener]] = defaultdict(set)
        self._of_one: Counter[tuple[str, ...]] = Counter()
        self._of_tenant: Counter[str] = Counter()
        self._count = 0
        self._waiting: Counter[tuple[str, ...]] = Counter()
        self._view = 0
        self._positions: dict[int, int] = {}
        self._ahead: set[str] = set()
        self._reader: asyncio.Task[None] | None = None
        self._beginning: asyncio.Task[None] | None = None

    async def listen(self, *about: str) -> Listener:
        """A listener for (tenant, customer) or (tenant, customer, order id): it misses nothing from the return on.

        Raises `Overloaded`, `TooManyStreams`, and `Unavailable` when the timeline cannot be read now.
        """
        while self._reader is None:
            # Whoever comes meanwhile shares one attempt, and fails with it.
            self._beginning = self._beginning or asyncio.create_task(self._begin(), name="feed begins")
            await asyncio.shield(self._beginning)
        self._check_room(*about[:2])
        listener = Listener(self, about, self.told_up_to())
        self._listeners[about].add(listener)
        self._of_one[about[:2]] += 1
        self._of_tenant[about[0]] += 1
        self._count += 1
        LISTENERS.set(self._count)
        return listener

    def told_up_to(self) -> Heads:
        """Up to where everything was told to those who listen."""
        return Heads(self._view, dict(self._positions))

    def forget(self, listener: Listener) -> None:
        """It listens no more; harmless when said twice."""
        about = listener.about
        there = self._listeners.get(about, set())
        if listener not in there:
            return
        there.remove(listener)
        if not there:
            del self._listeners[about]
        _one_less(self._of_one, about[:2])
        _one_less(self._of_tenant, about[0])
        self._count -= 1
        LISTENERS.set(self._count)

    def _check_room(self, tenant: str, customer: str) -> None:
        if self._count >= MOST_LISTENERS:
            raise Overloaded
        if self._of_one[tenant, customer] >= MOST_OF_ONE:
            raise TooManyStreams("You", MOST_OF_ONE)
        if self._of_tenant[tenant] >= SHARE_OF_A_TENANT * (MOST_LISTENERS - self._count):
            raise TooManyStreams("Your shop", self._of_tenant[tenant])

    async def waited(self, listener: Listener, seconds: float, change: Coroutine[Any, Any, None]) -> bool:
        """Wait for a change, for so long at most; False at once when too many wait already, or too many of one."""
        one = listener.about[:2]
        if self._waiting.total() >= MOST_WAITING or self._waiting[one] >= MOST_WAITING_OF_ONE:
            change.close()
            return False
        self._waiting[one] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await change
            return True
        finally:
            _one_less(self._waiting, one)

    def hang_up(self) -> None:
        """Let every listener go: they will come again, here or to another gateway."""
        for there in self._listeners.values():
            for listener in there:
                listener.hang_up()

    async def close(self) -> None:
        self.hang_up()
        await called_off(self._beginning, self._reader)

    async def _begin(self) -> None:
        try:
            self._begin_at(await self._timeline.heads())
            self._reader = asyncio.create_task(self._read(), name="feed")
        finally:
            self._beginning = None

    def _begin_at(self, heads: Heads) -> None:
        self._view, self._positions, self._ahead = heads.view, dict(heads.positions), set()

    async def _read(self) -> None:
        while True:
            try:
                full = await self._round()
            except Unavailable:
                # Told by the timeline. Listeners keep what they have; nothing is missed, as positions stay.
                await asyncio.sleep(AWAY_SECONDS)
            except Exception:
                logger().exception("feed_failed", consequence="listeners wait", again_in_seconds=AWAY_SECONDS)
                await asyncio.sleep(AWAY_SECONDS)
            else:
                await asyncio.sleep(0 if full else PAUSE_SECONDS)
            if not self._count:
                self._reader = None
                return

    async def _round(self) -> bool:
        """Tell what was told since the last round; whether there may be more at once."""
        # The heads first: what is told after they were read is above them, and is remembered as such.
        view, heads = now = await self._timeline.heads()
        if view != self._view:
            self._begin_at(now)
            self.hang_up()
            return False
        found = await self._timeline.told({lane: self._positions.get(lane, 0) for lane in heads}, most=MOST_AT_ONCE)
        if found:
            await self._before(found)
        until, filling = time.monotonic() + PAUSE_SECONDS, False
        for count, told in enumerate(found, 1):
            self._positions[told.lane] = max(self._positions.get(told.lane, 0), min(told.ordinal, heads[told.lane]))
            if told.id not in self._ahead:
                filling = self._tell(told) or filling
            if count % MOST_IN_A_ROW == 0:
                await asyncio.sleep(MOMENT_SECONDS if filling and time.monotonic() < until else 0)
                filling = False
        cut = _cut(found)
        for lane, head in heads.items():
            self._positions[lane] = min(head, cut.get(lane, head))
        # All that is above its lane's position will be read again.
        self._ahead -= {told.id for told in found}
        self._ahead |= {told.id for told in found if told.ordinal > self._positions[told.lane]}
        return bool(cut)

    def _tell(self, told: Told) -> bool:
        """Whether it fills somebody's queue."""
        heard, filling = None, False
        for about in ((told.tenant, told.customer), (told.tenant, told.customer, told.order_id)):
            for listener in self._listeners.get(about, ()):
                heard = heard or Heard(told, dict(self._positions))
                listener.tell(heard)
                filling = filling or listener.is_filling
        return filling


def _one_less(counts: Counter[Any], of: Any) -> None:
    counts[of] -= 1
    if not counts[of]:
        del counts[of]


def _cut(found: list[Told]) -> dict[int, int]:
    """Lanes of which there is more than was read, each with the ordinal up to which everything was."""
    counts = Counter(told.lane for told in found)
    last = {told.lane: told.ordinal for told in found}
    return {lane: last[lane] - 1 for lane, count in counts.items() if count == MOST_AT_ONCE}
