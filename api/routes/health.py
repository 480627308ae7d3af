"""For whoever runs the gateway: is it alive, is it ready, what has it counted."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from api.answers import Health, answer
from api.gateway import Parts
from api.telemetry import REGISTRY

router = APIRouter(tags=["health"])


@router.get("/health/live", response_model=Health)
async def live() -> Response:
    """The process answers."""
    return answer(Health(status="live", missing={}))


@router.get("/health/ready", response_model=Health)
async def ready(parts: Parts) -> Response:
    """Whether orders can be taken and shown. `degraded`: they can, though something is missing."""
    health = await parts.probes.health()
    return answer(health, 503 if health.status == "unready" else 200)


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """What was counted since the start, for Prometheus."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
