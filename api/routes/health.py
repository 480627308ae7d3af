"""For whoever runs the gateway: is it alive, is it ready, what has it counted."""

from typing import Annotated

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from api.answers import Deep, Health, answer
from api.gateway import Parts, caller_with
from api.telemetry import REGISTRY
from api.tokens import Caller

router = APIRouter(tags=["health"])


@router.get("/health/live", response_model=Health)
async def live() -> Response:
    """The process answers."""
    return answer(Health(status="live", missing={}))


@router.get("/health/ready", response_model=Health, responses={503: {"model": Health, "description": "Unready."}})
async def ready(parts: Parts) -> Response:
    """Whether orders can be taken and shown; `503` when not. `degraded`: they can, though something is missing."""
    health = await parts.probes.health()
    return answer(health, 503 if health.status == "unready" else 200)


@router.get("/health/deep", response_model=Deep, responses={503: {"model": Deep}})
async def deep(_caller: Annotated[Caller, caller_with("health:read")], parts: Parts) -> Response:
    """A round trip, as a customer's request takes it: through the log, two services, the timeline's database and Redis.

    At most one every five seconds is made, for all who ask at this gateway; `503` when something did not come back.
    """
    found = await parts.round_trip.made()
    return answer(found, 503 if found.missing else 200)


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """What was counted since the start, for Prometheus."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
