"""Questions of many at one time, asked as one: what comes while a question is under way is asked together as the next.

Whoever is alone asks at once. Under load a round trip, and where something is made a commit, serves all who wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Together(Generic[K, V]):
    """`ask` answers any number of keys at once. Raises what it raises, and `late()` for who waits longer than
    `wait_seconds` for others' questions to end.

    A question that fails fails for all who asked it. But when something may be wrong with one key alone
    (`alone_after`), each asks once more for their own.
    """

    def __init__(
        self,
        ask: Callable[[Collection[K]], Awaitable[dict[K, V]]],
        wait_seconds: float,
        late: Callable[[], Exception],
        alone_after: type[Exception],
    ) -> None:
        self._ask = ask
        self._wait_seconds = wait_seconds
        self._late = late
        self._alone_after = alone_after
        self._next: _Question[K, V] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def answers(self, wanted: Collection[K]) -> dict[K, V]:
        """What is answered of these."""
        question = self._next or self._new()
        question.wanted.update(dict.fromkeys(wanted))
        try:
            # Who goes away takes nobody's answer along.
            answered = await asyncio.shield(question.asking)
        except self._alone_after:
            if question.wanted.keys() <= set(wanted):
                raise
            return await self._ask(wanted)
        return {key: answered[key] for key in wanted if key in answered}

    def _new(self) -> "_Question[K, V]":
        wanted: dict[K, None] = {}
        asking = asyncio.create_task(self._asked(wanted), name="asked together")
        # When all who asked have gone away, nobody is left to be told of a failure.
        asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        self._next = _Question(wanted, asking)
        return self._next

    async def _asked(self, wanted: dict[K, None]) -> dict[K, V]:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            raise self._late() from None
        finally:
            # Who comes from here on asks the next question.
            self._next = None
        try:
            return await self._ask(list(wanted))
        finally:
            self._one_at_a_time.release()


class _Question(NamedTuple, Generic[K, V]):
    wanted: dict[K, None]
    asking: asyncio.Task[dict[K, V]]
