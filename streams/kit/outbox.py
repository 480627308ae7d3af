"""Saying what was committed: the outbox rows of one lane, in order, until the log has acknowledged them.

A row enters when its transaction has committed, or when the lane is taken over and the database still holds it. One
task a lane appends the oldest rows, several at a time, and waits for the acknowledgement; after any error it begins
again with the oldest row that was not acknowledged. So the log holds every fact, in sequence order at its first
appearance; what appears again is known to every listener's clock.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from streams.kit.faultpoints import reached
from streams.kit.log import Log, LogBegunAnew, ToSay
from streams.kit.logs import logger

MOST_BYTES = 800_000
PAUSE_SECONDS = 0.2


class Outbox:
    """One lane's outbox in memory. `acknowledged`: the last row of which the log holds every fact."""

    def __init__(self, partition: int, log: Log, acknowledged: int, on_acknowledged: Callable[[], None]) -> None:
        self._partition = partition
        self._log = log
        self._rows: deque[tuple[int, list[ToSay]]] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._on_acknowledged = on_acknowledged
        self._task: asyncio.Task[None] | None = None
        self.acknowledged = acknowledged
        #: Why the log does not take the oldest row, if it does not.
        self.trouble: str | None = None
        self.unacknowledged_facts = 0
        #: The log has lost what it had acknowledged: nothing more is said.
        self.begun_anew: LogBegunAnew | None = None

    def add(self, rows: Iterable[tuple[int, list[ToSay]]]) -> None:
        """Say committed rows, numbered in the order of their commits."""
        for number, facts in rows:
            self._rows.append((number, facts))
            self.unacknowledged_facts += len(facts)
        if self._rows:
            self._empty.clear()
            self._filled.set()
            if self._task is None:
                self._task = asyncio.create_task(self._say_all(), name=f"outbox-{self._partition}")

    async def drained(self, timeout_seconds: float) -> bool:
        """Wait until everything was acknowledged, for so long at most. Whether it was."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    def drop(self) -> None:
        """Stop saying. What was not acknowledged stays in the database for the next owner."""
        if self._task is not None:
            self._task.cancel()

    async def _say_all(self) -> None:
        while True:
            await self._filled.wait()
            rows = self._oldest()
            if not rows:
                self._filled.clear()
                self._empty.set()
                continue
            try:
                await self._log.append(self._partition, [fact for _, facts in rows for fact in facts])
            except LogBegunAnew as error:
                # To go on would be to say facts where listeners miss the ones before them.
                self.begun_anew, self.trouble = error, str(error)
                return
            except Exception as error:
                # Unknown which facts are in the log. They are said again, in order, and listeners know the first ones.
                self.trouble = f"partition {self._partition}: the log does not take what was committed: {error!r}"
                logger().warning("saying_again", partition=self._partition, row=rows[0][0], error=repr(error))
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            self.trouble = None
            reached("after-said")
            for _, facts in rows:
                self._rows.popleft()
                self.unacknowledged_facts -= len(facts)
            self.acknowledged = rows[-1][0]
            self._on_acknowledged()

    def _oldest(self) -> list[tuple[int, list[ToSay]]]:
        rows: list[tuple[int, list[ToSay]]] = []
        size = 0
        for row in self._rows:
            size += sum(len(fact.value) + 300 for fact in row[1])
            if rows and size > MOST_BYTES:
                break
            rows.append(row)
        return rows
