"""`redrive`: lets the workers try parked records again, one first, then the others at a rate; stops at a failure.

    set retry_at of a head ── its lane's owner tries it with its next batch ─┬─ handled: the row goes, the next one of
                                                                             │  its key is tried by itself
                                                                             └─ failed: attempts grow, the others wait

Only what is a head, and as it was a moment before, is set, in one statement, so two operators, or an operator and the
worker, cannot make a record overtake another. What was set and not tried yet is taken back when the redrive stops.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from pavane.dead_letters.items import Item, ItemId
from pavane.operators.reach import Connection
from pavane.operators.words import cut
from streams.kit.parking import DISCARDED

PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.1
MOST_AT_ONCE = 200
MESSAGE = 300


class Stopped(Enum):
    """Why a redrive ended before all was handled."""

    NO = "everything was handled"
    FAILED = "a record failed again"
    NOT_TAKEN = "no worker took it"


class Outcome(NamedTuple):
    """`handled`, `left`: records, with those that wait behind others. `why`: what stopped it, for people."""

    handled: int
    left: int
    stopped: Stopped = Stopped.NO
    why: str = ""

    def __str__(self) -> str:
        return f"{self.handled:,} handled, {self.left:,} left{f': {self.why}' if self.why else ''}"


Row = tuple[int, int, int, str, str, "datetime | None"]
"""partition, number, attempts, reason, message, retry_at."""


class Chain:
    """A head that was set, and what waited behind it then: attempts by number, and which are left."""

    def __init__(self, head: Item, attempts: dict[int, int]) -> None:
        self.head = head
        self.attempts = attempts
        self.left = set(attempts)

    def look(self, rows: Sequence[Row]) -> Row | None:
        """Note what is gone; the row that failed again, if one has: that is the first, as the others wait for it. (One
        that calls off what is before it is tried by itself.)"""
        found = {row[1]: row for row in rows if row[0] == self.head.id.partition and row[1] in self.attempts}
        self.left = set(found)
        first = min(found, default=0)
        return found[first] if found and found[first][2] > self.attempts[first] else None


class Redrive:
    """One redrive at one service. `shown` is called with the number of records handled so far."""

    def __init__(
        self,
        connection: Connection,
        service: str,
        heads: Sequence[Item],
        *,
        rate: float = 0.0,
        patience_seconds: float = PATIENCE_SECONDS,
        shown: Callable[[int], None] = lambda handled: None,
    ) -> None:
        self._connection = connection
        self._service = service
        self._heads = list(heads)
        self._pause = 1.0 / rate if rate else 0.0
        self._patience = patience_seconds
        self._shown = shown
        self._set: list[Chain] = []
        self._total = sum(1 + head.behind for head in heads)
        self._handled = 0

    async def run(self) -> Outcome:
        """The first one alone, then the others. However it ends, nothing stays set that was not tried."""
        outcome = Outcome(0, self._total)
        try:
            for some in (self._heads[:1], self._heads[1:]):
                outcome = await self._drive(some)
                if outcome.stopped is not Stopped.NO:
                    break
        finally:
            await self._take_back()
        return outcome._replace(handled=self._handled, left=max(0, self._total - self._handled))

    # -- driving -----------------------------------------------------------------------------------------------------

    async def _drive(self, heads: Sequence[Item]) -> Outcome:
        waiting = list(heads)
        next_at = moved_at = time.monotonic()
        while waiting or self._set:
            now = time.monotonic()
            while waiting and now >= next_at and len(self._set) < MOST_AT_ONCE:
                await self._try(waiting.pop(0))
                next_at = max(next_at + self._pause, now - LOOK_SECONDS)
            handled = self._handled
            failed = await self._look()
            if failed is not None:
                return self._outcome(Stopped.FAILED, self._told(failed))
            if self._handled > handled or not self._set:
                moved_at = time.monotonic()
                self._shown(self._handled)
            elif time.monotonic() - moved_at > self._patience:
                first = self._set[0].head.id
                return self._outcome(
                    Stopped.NOT_TAKEN,
                    f"nobody took {first} within {self._patience:.0f} s: {self._service} does not seem to run, or its "
                    f"lane {first.partition} is halted (see /health/ready), or what calls the record off is tried "
                    f"first (see 'pavane dead-letters show {first}'); it was taken back and is parked as before",
                )
            if waiting or self._set:
                await asyncio.sleep(
                    min(LOOK_SECONDS, max(0.0, next_at - time.monotonic())) if waiting else LOOK_SECONDS
                )
        return self._outcome(Stopped.NO, "")

    async def _try(self, head: Item) -> None:
        """Let it be tried, if it is still a head; else the next look shows what became of it. It may have been tried by
        itself since it was chosen."""
        at = head.id.partition, head.id.number
        # What waits behind it is read first: once it is set, it may be gone before we look.
        cursor = await self._connection.execute(
            "SELECT number, attempts FROM parked WHERE partition = %s AND (number = %s OR (%s AND holds AND key = %s))",
            (*at, head.parked.holds, head.parked.key),
        )
        attempts = {head.id.number: head.parked.attempts} | dict(await cursor.fetchall())
        await self._connection.execute(
            "UPDATE parked p SET retry_at = to_timestamp(0) "
            "WHERE partition = %s AND number = %s AND attempts = %s AND key = %s "
            "AND (NOT holds OR number = (SELECT min(number) FROM parked WHERE partition = p.partition AND key = p.key "
            "AND holds))",
            (*at, attempts[head.id.number], head.parked.key),
        )
        self._set.append(Chain(head, attempts))

    async def _look(self) -> Row | None:
        """Count what is gone; the first that failed again, if one has."""
        before = sum(len(chain.left) for chain in self._set)
        rows = await self._rows()
        failures = [failed for chain in self._set if (failed := chain.look(rows)) is not None]
        self._handled += before - sum(len(chain.left) for chain in self._set)
        self._set = [chain for chain in self._set if chain.left]
        return failures[0] if failures else None

    async def _rows(self) -> list[Row]:
        wanted = [(chain.head.id.partition, number) for chain in self._set for number in chain.left]
        cursor = await self._connection.execute(
            "SELECT partition, number, attempts, reason, message, retry_at FROM parked "
            "JOIN unnest(%s::int[], %s::bigint[]) AS wanted (partition, number) USING (partition, number)",
            ([partition for partition, _ in wanted], [number for _, number in wanted]),
        )
        found: list[Any] = await cursor.fetchall()
        return found

    def _told(self, failed: Row) -> str:
        partition, number, _, reason, message, retry_at = failed
        then = f" (it is asked again by itself at {retry_at:%H:%M:%S})" if retry_at is not None else ""
        return f"{ItemId(self._service, partition, number)} failed: {reason}: {cut(message, MESSAGE)}{then}"

    def _outcome(self, stopped: Stopped, why: str) -> Outcome:
        return Outcome(self._handled, self._total - self._handled, stopped, why)

    async def _take_back(self) -> None:
        """Heads that were set and not tried wait as before. One that is being tried now is beyond that."""
        for chain in self._set:
            head = chain.head
            await self._connection.execute(
                "UPDATE parked SET retry_at = %s WHERE partition = %s AND number = %s AND attempts = %s AND key = %s "
                "AND reason <> %s",
                (
                    head.parked.retry_at, head.id.partition, head.id.number, chain.attempts[head.id.number],
                    head.parked.key, DISCARDED,
                ),
            )
        if self._set:
            await self._look()
