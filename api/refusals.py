"""Who was refused is written down: no valid token, no right to it, too often (ASVS 5.0, 16.3.1 to 16.3.3).

Nothing of the token and nothing of the body: the address that it came from, the tenant where one is proven, the route,
and the words that the caller was answered with. One address is heard once in ten seconds for each reason, with how many
more there were: who knocks a thousand times does not fill the disk.
"""

from starlette.types import Scope

from api.errors import Forbidden, LimitReached, Problem, Unauthenticated
from api.tokens import Caller
from streams.kit.logs import Seldom, logger

_WRITTEN_DOWN = (Unauthenticated, Forbidden, LimitReached)


class Refusals:
    """What one gateway writes of them."""

    def __init__(self) -> None:
        self._seldom = Seldom()

    def note(self, scope: Scope, problem: Problem) -> None:
        """Write it down if it is of that kind. The edge has left `address` and the guard `caller` in the scope."""
        if not isinstance(problem, _WRITTEN_DOWN):
            return
        caller = scope.get("caller")
        tenant = caller.tenant if isinstance(caller, Caller) else None
        held = self._seldom.held_back((scope["address"], tenant, problem.slug))
        if held is None:
            return
        logger().warning(
            "refused",
            problem=problem.slug,
            why=problem.detail,
            address=scope["address"],
            tenant=tenant,
            method=scope["method"],
            route=str(getattr(scope.get("route"), "path", "none")),
            more=held,
        )
