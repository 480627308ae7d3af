"""The operators' desk, asked over HTTP for what is in services' own databases: dead letters, and why orders are late.

The gateway has no service's database, since strangers touch it. The desk (`pavane.desk`) has them, stands where only
gateways reach it, and believes nobody but the operator's own token, which goes along with each question.
"""

from collections.abc import Mapping
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import Response

from api.correlation import CORRELATION_HEADER, TRACE_HEADER
from api.errors import Unavailable
from streams.kit.logs import logger

TIMEOUT_SECONDS = 10.0
_NOT_ASKED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_BROUGHT_BACK = ("content-type", "link", "location", "retry-after", "www-authenticate")


class Desk:
    """The desk at this address; "": there is none."""

    def __init__(self, url: str = "") -> None:
        # By nobody's proxy, and never to where an answer sends us: the token goes to the desk alone.
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) if url else None

    async def ask(
        self, request: Request, query: Mapping[str, Any] | None = None, within_seconds: float = TIMEOUT_SECONDS
    ) -> Response:
        """The desk's answer to this request, of which everything was checked here. Raises `Unavailable`."""
        if self._http is None:
            raise Unavailable("Dead letters are not shown by this gateway: it was set up without a desk.", None)
        headers = {
            b"authorization": request.headers["authorization"].encode("latin-1"),
            CORRELATION_HEADER: request.scope["correlation"].encode(),
            b"content-type": b"application/json",
        }
        if request.scope["traceparent"] is not None:
            headers[TRACE_HEADER] = request.scope["traceparent"]
        given = {name: value for name, value in (query or {}).items() if value is not None}
        path, body = request.url.path, await request.body()
        try:
            found = await self._http.request(
                request.method, path, params=given, headers=headers, content=body, timeout=within_seconds
            )
        except httpx.HTTPError as error:
            logger().warning("desk_away", error=repr(error))
            raise Unavailable(_away(request, error)) from error
        brought = {name: found.headers[name] for name in _BROUGHT_BACK if name in found.headers}
        return Response(found.content, found.status_code, brought)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()


def _away(request: Request, error: httpx.HTTPError) -> str:
    if request.method == "GET" or isinstance(error, _NOT_ASKED):
        return "The operators' desk does not answer for now. What waits goes on waiting."
    shown = request.url.path.rpartition("/")[0]
    return f"The operators' desk did not answer: it may be trying it. GET {shown} tells; asking twice does no harm."
