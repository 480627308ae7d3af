"""What the gateway stands on, asked whether it answers: each part within a second, and all at most once a second.

Anybody may ask, so the answer names what is missing and no address; the log says why, whenever that changes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Set

from api.answers import Health
from streams.kit.logs import logger

PROBE_SECONDS = 1.0
KEEP_SECONDS = 1.0

Probe = Callable[[], Awaitable[None]]


class Probes:
    """Health by these probes. Without what is `dispensable` the gateway works, only less well: `degraded`."""

    def __init__(self, probes: Mapping[str, Probe], dispensable: Set[str] = frozenset()) -> None:
        self._probes = probes
        self._dispensable = dispensable
        self._found = Health(status="unready", missing={})
        self._why: dict[str, str] = {}
        self._at = float("-inf")
        self._asking = asyncio.Lock()

    async def health(self) -> Health:
        """How all parts are, or were a second ago at most: who asks often costs the parts nothing."""
        async with self._asking:
            if time.monotonic() - self._at >= KEEP_SECONDS:
                self._found = await self._ask()
                self._at = time.monotonic()
        return self._found

    async def _ask(self) -> Health:
        found = await asyncio.gather(*(_missing(probe) for probe in self._probes.values()))
        why = {name: said for name, said in zip(self._probes, found, strict=True) if said is not None}
        if why != self._why:
            logger().warning("health", missing=why)
        self._why = why
        missing = dict.fromkeys(why, "does not answer as it should")
        if not missing:
            return Health(status="ready", missing={})
        return Health(status="degraded" if missing.keys() <= self._dispensable else "unready", missing=missing)


async def _missing(probe: Probe) -> str | None:
    asked = asyncio.ensure_future(probe())
    done, _ = await asyncio.wait([asked], timeout=PROBE_SECONDS)
    if not done:
        # Not waited for: a client library may take long to call off what it asked.
        asked.cancel()
        asked.add_done_callback(_forget)
        return f"no answer within {PROBE_SECONDS:g} s"
    error = asked.exception()
    # Whatever a client library raises here, the dependency cannot be used: that is the answer.
    return None if error is None else f"{type(error).__name__}: {error}".splitlines()[0]


def _forget(asked: "asyncio.Future[None]") -> None:
    if not asked.cancelled():
        asked.exception()
