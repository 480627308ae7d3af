"""What services could not handle: for operators, who look at it and have it tried again. The desk answers."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.answers import DeadLetters, DeadLetterStory, Redriven
from api.bodies import Redrive
from api.gateway import TAKES_JSON, Parts, caller_with
from api.tokens import Caller

MOST = 200
SERVICE_PATTERN = r"^[a-z][a-z-]{0,30}$"

router = APIRouter(prefix="/v1/dead-letters", tags=["operators"])

Reader = Annotated[Caller, caller_with("dead-letters:read")]
Redriver = Annotated[Caller, caller_with("dead-letters:redrive")]
Service = Annotated[str, Path(pattern=SERVICE_PATTERN)]
Partition = Annotated[int, Path(ge=0, le=9_999)]
Number = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("", response_model=DeadLetters)
async def dead_letters(
    _caller: Reader,
    request: Request,
    parts: Parts,
    service: Annotated[str | None, Query(pattern=SERVICE_PATTERN)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
) -> Response:
    """What waits at each service and why: one line an order or item, with what is next of it.

    Only what says that it is of your tenant: what is of nobody shows in `pavane dead-letters`.
    """
    return await parts.desk.ask(request, {"service": service, "limit": limit})


@router.get("/{service}/{partition}/{number}", response_model=DeadLetterStory)
async def dead_letter(
    _caller: Reader, service: Service, partition: Partition, number: Number, request: Request, parts: Parts
) -> Response:
    """One dead letter, and what was done about it."""
    return await parts.desk.ask(request)


@router.post(
    "/{service}/{partition}/{number}/redrive",
    status_code=202,
    response_model=Redriven,
    dependencies=[TAKES_JSON],
)
async def redrive(
    _caller: Redriver,
    service: Service,
    partition: Partition,
    number: Number,
    why: Redrive,
    request: Request,
    parts: Parts,
) -> Response:
    """Have it tried again, and then what waits behind it, in order, until one fails.

    Who asked, why, and how it ended is kept at the service. Asking twice does no harm.
    """
    return await parts.desk.ask(request)
