"""HEAD is answered wherever GET is, as GET would be, without the content (RFC 9110, 9.3.2); streams alone have none."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

STREAMS = "/events"
"""How the addresses of streams end: what ends when its reader goes has no answer without content."""


class Head:
    """Wraps the routes, which know GET alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].endswith(STREAMS):
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}

        async def without_content(message: Message) -> None:
            if message["type"] == "http.response.start":
                # What was found on the way, such as the route, is for those outside as well.
                scope.update({**asked, "method": "HEAD"})
            elif message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app(asked, receive, without_content)
