"""The gateway as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp

from api import openapi, problems
from api.customers import Customers
from api.edge import Edge
from api.gateway import Gateway
from api.idempotency import Idempotency
from api.log import RequestLog
from api.routes import health, items, orders
from api.settings import GatewaySettings
from api.timeline import Timeline
from api.tokens import Verifier
from streams.kit.codec import Codec
from streams.kit.keyring import Keyring
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry


def build(settings: GatewaySettings) -> ASGIApp:
    """The application with the parts that `settings` name. Raises `WrongSetting` and `LanguageError`."""
    language = Language.load()

    keyring = Keyring.on(settings)

    async def open_codec() -> Codec:
        return Codec(language, ConfluentRegistry(settings.registry))

    return application(
        Gateway(
            verifier=Verifier.from_file(settings.jwks),
            log=RequestLog(settings.kafka, open_codec),
            idempotency=Idempotency(settings.redis),
            timeline=Timeline(settings.database_timeline),
            keyring=keyring,
            customers=Customers(keyring, language),
        )
    )


def application(gateway: Gateway) -> ASGIApp:
    """The routes and the edge around them; the gateway's parts are opened when the server starts the application."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await gateway.open()
        try:
            yield
        finally:
            await gateway.close()

    app = FastAPI(
        title="Pavane",
        description="Orders in, one record each to the log; their stories out.",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    for router in (orders.router, items.router, health.router):
        app.include_router(router)
    problems.install(app)
    openapi.install(app)
    return Edge(app)
