"""Why orders are late, for the operators of one tenant: what `pavane overdue` finds, without what is of servers or of
other tenants."""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from api.answers import LateOrder, Overdue
from api.errors import Overloaded, Unavailable
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Reach
from pavane.overdue.looking import look
from pavane.overdue.unheard import VIEW
from streams.kit.logs import logger

FRESH_SECONDS = 5.0
"""Who asks again so soon is told the same: a look asks every service and Kafka."""
MOST_WAITING = 8
CANNOT = "What holds orders up cannot be found out for now."


class Seen(NamedTuple):
    """What a look found. `at`: of a clock that only goes forward."""

    at: float
    orders: Sequence[LateOrder]


class LateOrders:
    """Looks for the late orders of a tenant, one look at a time."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0
        self._seen: dict[str, Seen] = {}

    async def of(self, tenant: str, most: int) -> Overdue:
        """At most so many, the longest wait first. Raises `Unavailable`, `Overloaded`."""
        if self._waiting >= MOST_WAITING:
            raise Overloaded
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                seen = await self._look(tenant)
        finally:
            self._waiting -= 1
        return Overdue(orders=list(seen.orders[:most]))

    async def _look(self, tenant: str) -> Seen:
        now = time.monotonic()
        self._seen = {of: seen for of, seen in self._seen.items() if now - seen.at < FRESH_SECONDS}
        if tenant not in self._seen:
            self._seen[tenant] = Seen(now, await self._late(tenant))
        return self._seen[tenant]

    async def _late(self, tenant: str) -> list[LateOrder]:
        if VIEW not in self._reach.databases or not self._reach.kafka:
            raise Unavailable(CANNOT)
        try:
            found = await look(self._reach, tenant=tenant)
        except NotAsked as error:
            logger().warning("overdue_not_asked", error=str(error))
            raise Unavailable(CANNOT) from error
        return [
            LateOrder.model_validate({**late._asdict(), "reason": why.reason, "remedy": why.remedy})
            for late, why in found.late
        ]
