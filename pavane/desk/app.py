"""The desk as an ASGI application: the same routes as the gateway's, which has checked everything but who may."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from api import problems
from api.answers import DeadLetters, DeadLetterStory, Health, Overdue, Redriven, answer
from api.bodies import Redrive
from api.edge import Edge
from api.errors import NoSuchDeadLetter
from api.gateway import caller_with
from api.guard import Guard
from api.tokens import Caller, Verifier
from pavane.dead_letters.items import ItemId
from pavane.desk.late import LateOrders
from pavane.desk.tenants import Letters
from pavane.operators.reach import Reach

Reader = Annotated[Caller, caller_with("dead-letters:read")]
Redriver = Annotated[Caller, caller_with("dead-letters:redrive")]
Watcher = Annotated[Caller, caller_with("overdue:read")]


def application(reach: Reach, verifier: Verifier) -> ASGIApp:
    """The routes and the edge around them. What is under way when it ends is called off, and noted so."""
    letters = Letters(reach)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await letters.close()
        await verifier.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    router = _router(letters, LateOrders(reach))
    app.include_router(router)
    problems.install(app, [router])
    return Edge(Guard(app, verifier, None))


def _router(letters: Letters, late: LateOrders) -> APIRouter:
    router = APIRouter()

    @router.get("/health/live")
    @router.get("/health/ready")
    async def health() -> Response:
        return answer(Health(status="ready", missing={}))

    @router.get("/v1/overdue", response_model=Overdue)
    async def overdue(caller: Watcher, limit: int) -> Response:
        return answer(await late.of(caller.tenant, limit))

    @router.get("/v1/dead-letters", response_model=DeadLetters)
    async def dead_letters(caller: Reader, limit: int, service: str | None = None) -> Response:
        return answer(await letters.waiting(caller.tenant, service, limit))

    @router.get("/v1/dead-letters/{service}/{partition}/{number}", response_model=DeadLetterStory)
    async def dead_letter(caller: Reader, request: Request) -> Response:
        return answer(await letters.story(caller.tenant, _item(request)))

    @router.post("/v1/dead-letters/{service}/{partition}/{number}/redrive", response_model=Redriven)
    async def redrive(caller: Redriver, request: Request, why: Redrive) -> Response:
        item = _item(request)
        operation = await letters.redrive(caller, item, why.why)
        location = f"/v1/dead-letters/{item}"
        return answer(Redriven(id=str(item), operation=operation, status_url=location), 202, {"Location": location})

    return router


def _item(request: Request) -> ItemId:
    """The dead letter that the address names. Raises `NoSuchDeadLetter`."""
    named = request.path_params
    if not (named["partition"].isdecimal() and named["number"].isdecimal()):
        raise NoSuchDeadLetter
    return ItemId(named["service"], int(named["partition"]), int(named["number"]))
