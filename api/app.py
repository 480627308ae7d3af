"""The gateway as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Lifespan

from api import openapi, problems
from api.addresses import Network, networks
from api.announced import announcement
from api.cache import Cache
from api.customers import Customers
from api.desk import Desk
from api.edge import Edge
from api.gateway import Gateway
from api.guard import Guard
from api.head import Head
from api.idempotency import Idempotency
from api.limits import Limits
from api.log import RequestLog
from api.routes import dead_letters, health, items, live, orders, overdue, pages
from api.settings import GatewaySettings
from api.timeline import Timeline
from api.tokens import Verifier
from streams.kit.announcing import announce
from streams.kit.codec import Codec
from streams.kit.keyring import Keyring
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry

ROUTERS = (live.router, orders.router, items.router, overdue.router, dead_letters.router, health.router, pages.router)


def build(settings: GatewaySettings) -> ASGIApp:
    """The application with the parts that `settings` name. Raises `WrongSetting` and `LanguageError`."""
    return served(parts(settings), settings)


def parts(settings: GatewaySettings) -> Gateway:
    """What the gateway stands on; nothing is connected to yet."""
    language = Language.load()
    keyring = Keyring.on(settings)

    async def open_codec() -> Codec:
        return Codec(language, ConfluentRegistry(settings.registry))

    timeline = Timeline(settings.database_timeline)
    return Gateway(
        verifier=Verifier.of(settings.jwks, settings.token_issuer, settings.token_audience),
        log=RequestLog(settings.kafka, open_codec, timeline.lane_count),
        idempotency=Idempotency(settings.redis),
        timeline=timeline,
        keyring=keyring,
        customers=Customers(keyring, language),
        limits=Limits(
            settings.redis,
            address=settings.limit_address,
            user=settings.limit_user,
            tenant=settings.limit_tenant,
            burst_seconds=settings.limit_burst_seconds,
        ),
        cache=Cache(settings.redis),
        desk=Desk(settings.desk),
    )


def served(gateway: Gateway, settings: GatewaySettings) -> ASGIApp:
    """The application of this gateway, as it is set. Raises `WrongSetting` and `LanguageError`."""
    said = announcement(Language.load())

    async def keep_announced() -> None:
        await announce(settings.database_timeline, said)

    return application(gateway, networks(settings.trusted_proxies), keep_announced, docs=settings.gateway_docs)


async def _nothing() -> None:
    """What a gateway without a version of its own does beside its requests."""


def application(
    gateway: Gateway,
    trusted: Sequence[Network] = (),
    beside: Callable[[], Coroutine[None, None, None]] = _nothing,
    *,
    docs: bool = True,
) -> ASGIApp:
    """The routes and the edge around them; the gateway's parts are opened when the server starts the application, and
    `beside` runs as long as it. `docs`: they are described at /docs and /openapi.json."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await gateway.open()
        running = asyncio.create_task(beside(), name="beside")
        try:
            yield
        finally:
            running.cancel()
            await gateway.close()

    app = routed(lifespan, docs=docs)
    app.state.gateway = gateway
    return Edge(Guard(app, gateway.verifier, gateway.limits), trusted)


def routed(lifespan: Lifespan[FastAPI] | None = None, *, docs: bool = True) -> FastAPI:
    """The routes alone, as they are described and served."""
    routers = (*ROUTERS, pages.reference_router) if docs else ROUTERS
    app = FastAPI(
        title="Pavane",
        version="1",
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in routers:
        app.include_router(router)
    problems.install(app, routers)
    openapi.install(app, routers)
    app.add_middleware(Head)
    return app
