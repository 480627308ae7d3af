"""Which orders wait longer than usual, and what holds them up: for operators of the tenant."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import LateOrder, Overdue, answer
from api.errors import Unavailable
from api.gateway import Parts, caller_with
from api.tokens import Caller

MOST = 200
REASONS_SECONDS = 5.0

router = APIRouter(prefix="/v1", tags=["operators"])

Watcher = Annotated[Caller, caller_with("overdue:read")]


@router.get("/overdue", response_model=Overdue)
async def overdue(
    caller: Watcher, request: Request, parts: Parts, limit: Annotated[int, Query(ge=1, le=MOST)] = 50
) -> Response:
    """Orders of which somebody should have said more long ago, by how long each step usually takes, with what is known
    to hold each up. What there is no time to find out is null."""
    try:
        told = await parts.desk.ask(request, {"limit": limit}, REASONS_SECONDS)
        if told.status_code == 200:
            return told
    except Unavailable:
        pass  # the stories tell which orders they are all the same
    found = await parts.timeline.overdue(caller.tenant, limit)
    return answer(Overdue(orders=[LateOrder.model_validate(each._asdict()) for each in found]))
