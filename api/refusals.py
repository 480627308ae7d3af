"""Who was refused is written down: no valid token, no right to it, too often (ASVS 5.0, 16.3.1 to 16.3.3).

Nothing of the token and nothing of the body: the address that it came from, the tenant where one is proven, the route,
and the words that the caller was answered with. One address is heard once in ten seconds for each reason, with how many
more there were: who knocks a thousand times does not fill the disk.
"""

import time
from collections.abc import Callable

from starlette.types import Scope

from api.errors import Forbidden, LimitReached, Problem, Unauthenticated
from api.tokens import Caller
from streams.kit.logs import logger

QUIET_SECONDS = 10.0
MOST_REMEMBERED = 1_000
_WRITTEN_DOWN = (Unauthenticated, Forbidden, LimitReached)


class Refusals:
    """What one gateway writes of them. `now`: seconds of a clock that never goes back."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # By address, tenant and problem: when it was last written down, and how many were not since. Oldest first.
        self._heard: dict[tuple[str, str, str], tuple[float, int]] = {}

    def note(self, scope: Scope, problem: Problem) -> None:
        """Write it down if it is of that kind. The guard has left `address` and `caller` in the scope."""
        if not isinstance(problem, _WRITTEN_DOWN):
            return
        caller = scope.get("caller")
        address, tenant = scope.get("address", ""), caller.tenant if isinstance(caller, Caller) else ""
        key, now = (address, tenant, problem.slug), self._now()
        since, held = self._heard.get(key, (float("-inf"), 0))
        if now - since < QUIET_SECONDS:
            self._heard[key] = (since, held + 1)
            return
        self._heard.pop(key, None)
        if len(self._heard) >= MOST_REMEMBERED:
            del self._heard[next(iter(self._heard))]
        self._heard[key] = (now, 0)
        logger().warning(
            "refused",
            problem=problem.slug,
            why=problem.detail,
            address=address,
            tenant=tenant or None,
            method=scope["method"],
            route=str(getattr(scope.get("route"), "path", "none")),
            more=held,
        )
