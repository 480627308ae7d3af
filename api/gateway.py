"""The parts of a running gateway, and what a route may ask of them."""

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request

from api.customers import Customer, Customers
from api.errors import Unauthenticated
from api.idempotency import Idempotency, read_key
from api.log import RequestLog
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

    async def open(self) -> None:
        """Begin to connect to everything; what is away is waited for in the background."""
        self.log.start()
        await self.timeline.open()
        await self.keyring.open()

    async def close(self) -> None:
        """Send what is under way, then let go of everything, within some seconds."""
        await self.log.close()
        await self.timeline.close()
        await self.keyring.close()
        await self.idempotency.close()


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
    return read_key(request.headers.get("idempotency-key"))


async def _key_if_sent(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    return None if key is None else read_key(key)


Parts = Annotated[Gateway, Depends(_gateway)]
Traced = Annotated[Trace, Depends(_trace)]
Key = Annotated[str, Depends(_key)]
KeyIfSent = Annotated[str | None, Depends(_key_if_sent)]


def caller_with(scope: str) -> Any:
    """A dependency: the caller by the bearer token, who needs `scope`. Raises `Unauthenticated` and `Forbidden`."""

    async def authenticate(request: Request) -> Caller:
        return _caller(request, scope)

    return Depends(authenticate)


def customer_with(scope: str, *, orders: bool = False) -> Any:
    """A dependency: the caller as services know them. `orders`: they may be new. Raises what `caller_with` raises, and
    `Unavailable`."""

    async def recognize(request: Request) -> Customer:
        caller = _caller(request, scope)
        customers: Customers = request.app.state.gateway.customers
        return await (customers.ordering(caller) if orders else customers.known(caller))

    return Depends(recognize)


def _caller(request: Request, scope: str) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send a header 'Authorization: Bearer <token>'.", error="")
    gateway: Gateway = request.app.state.gateway
    return require(gateway.verifier.caller(token.strip()), scope)
