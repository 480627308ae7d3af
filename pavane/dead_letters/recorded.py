"""A redrive that is kept in `operations`: what is about to be done before it is done, and how it ended."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

from pavane.dead_letters.items import Item
from pavane.dead_letters.redriving import PATIENCE_SECONDS, Outcome, Redrive
from pavane.operators import operations
from pavane.operators.reach import Connection

INTERRUPTED = "interrupted: what was not tried yet was taken back"


class Asked(NamedTuple):
    """Who asks for a redrive, why, and of what in words."""

    who: str
    why: str
    subject: str


class RecordedRedrive:
    """One redrive at one service, under the number that `operations` has given it."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection = connection
        self.number = number

    @classmethod
    async def begin(cls, connection: Connection, asked: Asked, heads: Sequence[Item]) -> Self:
        """Write down that these heads will be tried."""
        about = [head.id for head in heads]
        number = await operations.begin(connection, asked.who, "redrive", about, asked.subject, asked.why)
        return cls(connection, number)

    async def run(
        self,
        heads: Sequence[Item],
        *,
        rate: float = 0.0,
        patience_seconds: float = PATIENCE_SECONDS,
        shown: Callable[[int], None] = lambda handled: None,
    ) -> Outcome:
        """Try them, the first one alone, and write down how it ended, also when it is called off."""
        service = heads[0].id.service
        redrive = Redrive(self._connection, service, heads, rate=rate, patience_seconds=patience_seconds, shown=shown)
        try:
            outcome = await redrive.run()
        except asyncio.CancelledError:
            await operations.end(self._connection, self.number, INTERRUPTED)
            raise
        await operations.end(self._connection, self.number, str(outcome))
        return outcome
