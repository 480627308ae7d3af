"""Which orders wait longer than usual: for operators of the tenant."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.answers import LateOrder, Overdue, answer
from api.gateway import Parts, caller_with
from api.tokens import Caller

MOST = 200

router = APIRouter(prefix="/v1", tags=["operators"])

Watcher = Annotated[Caller, caller_with("overdue:read")]


@router.get("/overdue", response_model=Overdue)
async def overdue(caller: Watcher, parts: Parts, limit: Annotated[int, Query(ge=1, le=MOST)] = 50) -> Response:
    """Orders of which somebody should have said more long ago, by how long each step usually takes. Why, and what
    helps, says `pavane overdue`."""
    found = await parts.timeline.overdue(caller.tenant, limit)
    return answer(Overdue(orders=[LateOrder.model_validate(each._asdict()) for each in found]))
