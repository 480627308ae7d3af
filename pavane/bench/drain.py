"""Whole sagas a second: orders that lie in the log already, from the first fact about them to the last.

Everything runs and is idle but `orders`, which is stopped. The requests are put on the log, then `orders` is started.
The clock runs from the time that the first fact bears (`OrderPlaced`, decided) to the moment at which the last fact of
any service was seen at the end of its topic (looked for every 100 ms). So it includes every read, decision, commit and
append of all nine facts of every order, the asking of provider and carrier with their own durable records, and the
timeline's work as far as it happens meanwhile; not the start of a process, nor placing the orders over HTTP.

CPU is counted for longer, until the timeline has heard all: what it gives way with has to be done all the same.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import psycopg

from infra.addresses import Addresses
from pavane.bench import database, log, proof
from pavane.bench.ground import Ground
from pavane.bench.log import Ends, Looker
from pavane.bench.usage import Usage
from pavane.bench.workload import Workload
from pavane.platform import HEARD_SECONDS
from streams.kit.lane import REQUESTS
from streams.kit.run import find, services

BETWEEN_LOOKS_SECONDS = 0.1
STILL_SECONDS = 1.5
STUCK_SECONDS = 120.0
VIEW = "timeline"

OnProgress = Callable[[int], None]


class Drained(NamedTuple):
    """One drain, proven. Seconds: see the module; `caught_up_seconds`: until the timeline had heard all."""

    orders: int
    ended: Mapping[str, int]
    facts: int
    reads: int
    begun: float
    seconds: float
    caught_up_seconds: float
    begin: Ends
    end: Ends
    use: database.Use
    rows_before: database.Rows
    cpu_seconds: Mapping[str, float]
    peak_memory: Mapping[str, int]
    log_bytes: int | None
    invariants: int

    @property
    def sagas_per_second(self) -> float:
        return self.orders / self.seconds

    @property
    def cpu_ms_a_saga(self) -> float:
        return 1000 * sum(self.cpu_seconds.values()) / self.orders

    def document(self) -> dict[str, Any]:
        """For the JSON file."""
        orders = self.orders
        return {
            "orders": orders,
            "ended": dict(self.ended),
            "seconds": round(self.seconds, 3),
            "sagas_per_second": round(self.sagas_per_second, 1),
            "sagas_per_second_until_the_timeline_has_heard_all": round(orders / self.caught_up_seconds, 1),
            "facts_a_saga": round(self.facts / orders, 2),
            "record_reads_a_saga": round(self.reads / orders, 2),
            "cpu_seconds": {name: round(used, 2) for name, used in self.cpu_seconds.items()},
            "cpu_ms_a_saga": round(self.cpu_ms_a_saga, 3),
            "peak_memory_mib": {name: round(used / 2**20) for name, used in self.peak_memory.items()},
            "statements_a_saga": _share(self.use.statements, orders),
            "commits_a_saga": _share(self.use.commits, orders),
            "wal_bytes_a_saga": _share(self.use.wal_bytes, orders),
            "wal_bytes_a_saga_without_page_images": _share(self.use.wal_record_bytes, orders),
            "log_bytes_a_saga": _share(self.log_bytes, orders),
            "invariants_held": self.invariants,
        }


class Seen:
    """What looks at the log and at the timeline's positions have told. Moments in seconds since 1970.

    `caught_up_at`: when the timeline had heard all, never before `grew_at`. `nearer_at`: when something was last said
    or, since then, heard.
    """

    def __init__(self, begin: Ends, now: float) -> None:
        self.begin = self.ends = begin
        self.grew_at = self.caught_up_at = self.nearer_at = now
        self.is_behind = True
        self._heard = 0

    def grew(self, ends: Ends, now: float) -> None:
        self.ends, self.is_behind = ends, True
        self.grew_at = self.caught_up_at = self.nearer_at = now

    def heard(self, heard: Ends, topics: Collection[str], now: float) -> None:
        """So far had the timeline heard, which hears these topics."""
        wanted = {at: end for at, end in self.ends.items() if at[0] in topics}
        count = sum(min(heard.get(at, 0), end) for at, end in wanted.items())
        if count > self._heard:
            self._heard, self.nearer_at = count, now
        self.is_behind = count < sum(wanted.values())
        self.caught_up_at = now


class Watch:
    """Sees, from a thread, when the log grew last and when the timeline had heard all of it."""

    def __init__(self, addresses: Addresses, on_progress: OnProgress) -> None:
        self._looker = Looker(addresses.kafka_bootstrap)
        self._view_url = addresses.postgres[VIEW]
        self._view_topics = find(VIEW).topics
        self._on_progress = on_progress
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="log-watch", daemon=True)
        self.seen = Seen(self._looker.ends(), time.time())

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)

    def _watch(self) -> None:
        with psycopg.connect(self._view_url, autocommit=True) as connection:
            while not self._stopping.wait(BETWEEN_LOOKS_SECONDS):
                found, now = self._looker.ends(), time.time()
                if found != self.seen.ends:
                    self.seen.grew(found, now)
                    self._on_progress(sum(found.values()) - sum(self.seen.begin.values()))
                elif self.seen.is_behind:
                    rows = connection.execute("SELECT partition, positions FROM lanes").fetchall()
                    heard = {(topic, lane): at for lane, positions in rows for topic, at in positions.items()}
                    self.seen.heard(heard, self._view_topics, time.time())


async def drain(
    ground: Ground,
    usage: Usage,
    workload: Workload,
    on_progress: OnProgress = lambda facts: None,
    *,
    has_parked: bool = False,
    is_audited: bool = True,
) -> Drained:
    """Preload the workload's orders and let the platform work them off. Raises `NotProven` when something is wrong.

    `has_parked`: some records are parked on purpose. `is_audited`: without it only the ends of all orders are checked.
    """
    platform = ground.platform
    await ground.fill(workload)
    stopped = [each for each in platform.children["orders"] if each.is_running]
    await asyncio.gather(*(each.stop() for each in stopped))
    requested = await log.put(ground.addresses, workload.requests())
    await asyncio.to_thread(database.checkpoint, ground.addresses.postgres_admin)
    rows_before = await asyncio.to_thread(database.rows_written, ground.databases)
    before = await asyncio.to_thread(ground.look)
    bytes_before = log.bytes_on_disk(ground.stack.data.path, log.topics())
    watch = Watch(ground.addresses, on_progress)
    watch.start()
    await asyncio.gather(*(platform.start("orders") for _ in stopped))
    seen = await _until_still(ground, watch)
    after = await asyncio.to_thread(ground.look)
    bytes_after = log.bytes_on_disk(ground.stack.data.path, log.topics())
    facts = {at: end for at, end in seen.ends.items() if not at[0].endswith(REQUESTS)}
    begun = await asyncio.to_thread(_first_fact, ground.addresses.kafka_bootstrap, seen.begin, seen.ends)
    ended = await proof.check_ends(ground.addresses, workload.tenant, workload.orders)
    invariants = await proof.check_invariants(platform, has_parked) if is_audited else 0
    said = {topic: sum(end - seen.begin[at] for at, end in facts.items() if at[0] == topic) for topic, _ in facts}
    return Drained(
        orders=len(workload.orders),
        ended=ended,
        facts=sum(said.values()),
        reads=requested + sum(count * _listeners(topic) for topic, count in said.items()),
        begun=begun,
        seconds=seen.grew_at - begun,
        caught_up_seconds=seen.caught_up_at - begun,
        begin=seen.begin,
        end=seen.ends,
        use=await asyncio.to_thread(ground.used, before, after),
        rows_before=rows_before,
        cpu_seconds=used(usage, begun, seen),
        peak_memory=usage.peak_memory(),
        log_bytes=None if bytes_before is None or bytes_after is None else bytes_after - bytes_before,
        invariants=invariants,
    )


def used(usage: Usage, begun: float, seen: Seen) -> Mapping[str, float]:
    """CPU seconds by process for all that the orders called for."""
    return usage.cpu_seconds(begun, seen.caught_up_at)


async def _until_still(ground: Ground, watch: Watch) -> Seen:
    """Return when nothing was said for a while, and everything was heard, however long that takes. Raises `NotProven`
    when it comes no nearer."""
    seen = watch.seen
    while True:
        if is_still(seen, time.time()) and await _is_settled(ground, seen):
            await watch.stop()
            return seen
        await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


def is_still(seen: Seen, now: float) -> bool:
    """Nothing was said for a while, and the timeline has heard all. Raises `NotProven` when it comes no nearer."""
    if now - seen.nearer_at > STUCK_SECONDS:
        said = sum(seen.ends.values()) - sum(seen.begin.values())
        behind = ", and the timeline has not heard all" if seen.is_behind else ""
        ago = f"{now - seen.grew_at:.0f} seconds ago"
        raise proof.NotProven(f"the orders come to no end: {said:,} records were said, the last {ago}{behind}")
    return now - seen.grew_at > STILL_SECONDS and not seen.is_behind and seen.ends != seen.begin


async def _is_settled(ground: Ground, seen: Seen) -> bool:
    """Everybody else has heard all as well, and has said nothing more."""
    ends = seen.ends
    await ground.platform.settled(HEARD_SECONDS)
    return seen.ends == ends


def _first_fact(bootstrap: str, begin: Ends, end: Ends) -> float:
    """When the first order was decided (its fact's timestamp), in seconds since 1970."""
    first = {at: begin.get(at, 0) + 1 for at in end if at[0] == "orders" and end[at] > begin.get(at, 0)}
    return min(message.timestamp()[1] for message in log.read(bootstrap, begin, first)) / 1000


def _share(count: int | None, orders: int) -> float | None:
    return None if count is None else round(count / orders, 4)


def _listeners(topic: str) -> int:
    return sum(topic in find(name).topics for name in services())
