"""Before anything that a stranger sent is read as what it says: who is it, and does it come too often?

Pure ASGI. For routes that want to know who asks it leaves in the scope, as `caller`, whom the token proves, or the
problem that such a route must raise; pages and figures, which are for everybody, cost their address alone. A request
with a body that nobody signed for ends here. Who is refused, here or by a route, is written down. Where it came from,
as `address`, the edge has left there.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import LimitReached, Problem, Unauthenticated
from api.limits import Kind, Limits, Verdict
from api.refusals import Refusals
from api.tokens import Caller, Verifier, bearer_token

READ_COST = 1
WRITE_COST = 5
COSTLY_READS = {"/v1/overdue": 10, "/v1/dead-letters": 5}
"""Those that look at more than a page of one table, by the beginning of the path."""
REFUSED_COST = 10
"""A token that proves nothing costs its address more than any request that means well."""

_FOR_CALLERS = ("/v1/", "/health/deep")
_FREE = ("/health/live", "/health/ready")
"""For whoever runs the gateway, and asks by the second."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, verifier: Verifier, limits: Limits | None) -> None:
        self._app = app
        self._verifier = verifier
        self._limits = limits
        self._refusals = Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _FREE:
            await self._app(scope, receive, send)
            return
        try:
            await self._guarded(scope, receive, send)
        except Problem as problem:
            self._refusals.note(scope, problem)
            raise
        if "problem" in scope:
            self._refusals.note(scope, scope["problem"])

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = None
        if scope["path"].startswith(_FOR_CALLERS):
            caller = scope["caller"] = await self._caller(scope)
        kind = Kind.READ if scope["method"] in _READING else Kind.WRITE
        verdict = await self._take(scope, caller, kind)
        if verdict.retry_after_seconds:
            raise LimitReached(verdict.retry_after_seconds, verdict.headers())
        if isinstance(caller, Problem) and scope["method"] in _WITH_BODY:
            caller.headers.update(verdict.headers())
            raise caller
        await self._app(scope, receive, _told(send, verdict))

    async def _caller(self, scope: Scope) -> Caller | Problem:
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
        try:
            return await self._verifier.caller(bearer_token(headers))
        except Problem as problem:
            return problem

    async def _take(self, scope: Scope, caller: Caller | Problem | None, kind: Kind) -> Verdict:
        if self._limits is None:
            return Verdict(0, ())
        address = scope["address"]
        if isinstance(caller, Caller):
            return await self._limits.take(address, caller, kind, cost_of(kind, scope["path"]))
        cost = REFUSED_COST if isinstance(caller, Unauthenticated) else READ_COST
        return await self._limits.take(address, None, kind, cost)


def cost_of(kind: Kind, path: str) -> int:
    """How many units a request of somebody who is known costs."""
    if kind is Kind.WRITE:
        return WRITE_COST
    return next((cost for beginning, cost in COSTLY_READS.items() if path.startswith(beginning)), READ_COST)


def _told(send: Send, verdict: Verdict) -> Send:
    headers = [(name.lower().encode(), value.encode()) for name, value in verdict.headers().items()]

    async def told(message: Message) -> None:
        if headers and message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return told
