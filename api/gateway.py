"""The parts of a running gateway, and what a route may ask of them."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header, Request

from api.cache import Cache
from api.customers import Customer, Customers
from api.deep import RoundTrip
from api.desk import Desk
from api.errors import MalformedBody, Problem, UnsupportedMediaType
from api.feed import Feed
from api.idempotency import Idempotency, read_key
from api.limits import Limits
from api.log import RequestLog
from api.probes import Probe, Probes
from api.reads import Reads
from api.timeline import Timeline
from api.tokens import Caller, Verifier, require
from streams.kit.keyring import Keyring


@dataclass(frozen=True)
class Gateway:
    """Everything that outlives a request."""

    verifier: Verifier
    log: RequestLog
    idempotency: Idempotency
    timeline: Timeline
    keyring: Keyring
    customers: Customers
    limits: Limits | None = None
    cache: Cache | None = None
    desk: Desk = field(default_factory=Desk)

    @cached_property
    def feed(self) -> Feed:
        """What happens to orders, for whoever listens."""
        return Feed(self.timeline, self.reads.told)

    @cached_property
    def reads(self) -> Reads:
        """Orders, stock and prices, as they are shown."""
        return Reads(self.timeline, self.cache)

    @cached_property
    def probes(self) -> Probes:
        """Whether everything answers. Without Redis only kept answers are missing; old keys are good for a while."""
        probes: dict[str, Probe] = {
            "kafka": self.log.reachable,
            "timeline": self.reads.reachable,
            "redis": self.idempotency.reachable,
            "keys of persons": self.keyring.reachable,
        }
        if self.verifier.published is not None:
            probes |= {"keys": self.verifier.published.known, "key provider": self.verifier.published.reachable}
        return Probes(probes, dispensable={"redis", "key provider"})

    @cached_property
    def round_trip(self) -> RoundTrip:
        """Whether a request goes all the way, and how long it takes."""
        return RoundTrip(self.log, self.timeline, self.idempotency)

    async def open(self) -> None:
        """Begin to connect to everything; what is away is waited for in the background."""
        self.log.start()
        await self.timeline.open()
        self.reads.start()
        await self.keyring.open()

    async def close(self) -> None:
        """Send what is under way, then let go of everything, within some seconds."""
        await self.feed.close()
        await self.log.close()
        await self.reads.close()
        await self.timeline.close()
        await self.keyring.close()
        await self.idempotency.close()
        await self.verifier.close()
        await self.desk.close()
        if self.limits is not None:
            await self.limits.close()


class Trace(NamedTuple):
    """What travels with the request into every fact."""

    correlation: str
    traceparent: bytes | None


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _trace(request: Request) -> Trace:
    return Trace(request.scope["correlation"], request.scope["traceparent"])


async def _key(request: Request) -> str:
    return read_key(request.headers.getlist("idempotency-key"))


async def _key_if_sent(request: Request) -> str | None:
    headers = request.headers.getlist("idempotency-key")
    return read_key(headers) if headers else None


# Named in their signatures for the description: the framework would give the first line alone.
async def _if_none_match(request: Request, if_none_match: Annotated[str | None, Header()] = None) -> str | None:
    return _list_of(request, "if-none-match")


async def _prefer(request: Request, prefer: Annotated[str | None, Header()] = None) -> str | None:
    return _list_of(request, "prefer")


def _list_of(request: Request, name: str) -> str | None:
    """A header that is a list, whose lines are one (RFC 9110, section 5.3); None: it is not there."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None


async def _takes_json(request: Request) -> None:
    kind, body = request.headers.get("content-type", "").partition(";")[0].strip().lower(), await request.body()
    if kind != "application/json" and body:
        raise UnsupportedMediaType
    if body:
        _check_unambiguous(body)


def _check_unambiguous(body: bytes) -> None:
    """Whatever else reads the body on its way must see the same: the framework's reader takes UTF-16 as well, and of a
    name that stands twice the last (RFC 8259, 4 and 8.1). Raises `MalformedBody`."""
    if json.detect_encoding(body) != "utf-8":
        raise MalformedBody("The body must be JSON in UTF-8, without a byte order mark.")
    try:
        json.loads(body.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise MalformedBody("The body cannot be read as JSON.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedBody("A name stands twice in the body: which of them is meant is not guessed.")
    return found


TAKES_JSON = Depends(_takes_json)
"""A dependency of routes with a body. A form of a foreign page can send no JSON, so that it can do nothing here."""
Parts = Annotated[Gateway, Depends(_gateway)]
Traced = Annotated[Trace, Depends(_trace)]
Key = Annotated[str, Depends(_key)]
KeyIfSent = Annotated[str | None, Depends(_key_if_sent)]
IfNoneMatch = Annotated[str | None, Depends(_if_none_match)]
Prefer = Annotated[str | None, Depends(_prefer)]


def caller_with(scope: str) -> Any:
    """A dependency: the caller by the bearer token, who needs `scope`. Raises `Unauthenticated` and `Forbidden`."""

    async def authenticate(request: Request) -> Caller:
        return _caller(request, scope)

    # For the description of the route.
    authenticate.__dict__["scope"] = scope
    return Depends(authenticate)


def customer_with(scope: str, *, orders: bool = False) -> Any:
    """A dependency: the caller as services know them. `orders`: they may be new. Raises what `caller_with` raises, and
    `Unavailable`."""

    async def recognize(request: Request) -> Customer:
        caller = _caller(request, scope)
        customers: Customers = request.app.state.gateway.customers
        return await (customers.ordering(caller) if orders else customers.known(caller))

    # For the description of the route.
    recognize.__dict__["scope"] = scope
    return Depends(recognize)


def _caller(request: Request, scope: str) -> Caller:
    caller: Caller | Problem = request.scope["caller"]
    if isinstance(caller, Problem):
        raise caller
    return require(caller, scope)
