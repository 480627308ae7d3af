"""For whoever runs the gateway: is it alive, is it ready, what has it counted."""

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from api.answers import Health, answer
from api.gateway import Parts
from api.telemetry import REGISTRY

PROBE_SECONDS = 1.0

router = APIRouter(tags=["health"])


@router.get("/health/live", response_model=Health)
async def live() -> Response:
    """The process answers."""
    return answer(Health(status="live", missing={}))


@router.get("/health/ready", response_model=Health)
async def ready(parts: Parts) -> Response:
    """Whether orders can be taken and shown. Without Redis they can (`degraded`): only kept answers are missing."""
    probes = {
        "kafka": parts.log.reachable,
        "timeline": parts.timeline.reachable,
        "keys": parts.keyring.reachable,
        "redis": parts.idempotency.reachable,
    }
    found = await asyncio.gather(*(_missing(probe) for probe in probes.values()))
    missing = {name: why for name, why in zip(probes, found, strict=True) if why is not None}
    if not missing:
        return answer(Health(status="ready", missing={}))
    if missing.keys() == {"redis"}:
        return answer(Health(status="degraded", missing=missing))
    return answer(Health(status="unready", missing=missing), 503)


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """What was counted since the start, for Prometheus."""
    return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _missing(probe: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await probe()
    except TimeoutError:
        return f"no answer within {PROBE_SECONDS:g} s"
    except Exception as error:
        # Whatever a client library raises here, the dependency cannot be used: that is the answer.
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
