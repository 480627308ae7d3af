"""The gateway as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Lifespan

from api import openapi, problems
from api.addresses import Network, networks
from api.announced import announcement
from api.customers import Customers
from api.edge import Edge
from api.gateway import Gateway
from api.guard import Guard
from api.idempotency import Idempotency
from api.limits import Limits
from api.log import RequestLog
from api.routes import health, items, live, orders, overdue, pages
from api.settings import GatewaySettings
from api.timeline import Timeline
from api.tokens import Verifier
from streams.kit.announcing import announce
from streams.kit.codec import Codec
from streams.kit.keyring import Keyring
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry

ROUTERS = (live.router, orders.router, items.router, overdue.router, health.router, pages.router)


def build(settings: GatewaySettings) -> ASGIApp:
    """The application with the parts that `settings` name. Raises `WrongSetting` and `LanguageError`."""
    language = Language.load()
    keyring = Keyring.on(settings)

    async def open_codec() -> Codec:
        return Codec(language, ConfluentRegistry(settings.registry))

    async def keep_announced() -> None:
        await announce(settings.database_timeline, announcement(language))

    return application(
        Gateway(
            verifier=Verifier.of(settings.jwks, settings.token_issuer, settings.token_audience),
            log=RequestLog(settings.kafka, open_codec),
            idempotency=Idempotency(settings.redis),
            timeline=Timeline(settings.database_timeline),
            keyring=keyring,
            customers=Customers(keyring, language),
            limits=Limits(
                settings.redis,
                address=settings.limit_address,
                user=settings.limit_user,
                tenant=settings.limit_tenant,
                burst_seconds=settings.limit_burst_seconds,
            ),
        ),
        trusted=networks(settings.trusted_proxies),
        beside=keep_announced,
    )


async def _nothing() -> None:
    """What a gateway without a version of its own does beside its requests."""


def application(
    gateway: Gateway,
    trusted: Sequence[Network] = (),
    beside: Callable[[], Coroutine[None, None, None]] = _nothing,
) -> ASGIApp:
    """The routes and the edge around them; the gateway's parts are opened when the server starts the application, and
    `beside` runs as long as it."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await gateway.open()
        running = asyncio.create_task(beside(), name="beside")
        try:
            yield
        finally:
            running.cancel()
            await gateway.close()

    app = routed(lifespan)
    app.state.gateway = gateway
    return Edge(Guard(app, gateway.verifier, gateway.limits, trusted))


def routed(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The routes alone, as they are described and served."""
    app = FastAPI(
        title="Pavane",
        version="1",
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app, ROUTERS)
    openapi.install(app, ROUTERS)
    return app
