"""`/openapi.json`: what the routes' signatures do not say: tokens and scopes, keys, headers, every problem, examples.

python -m api.openapi        # writes api/openapi.json, which a test holds equal to the code
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from api import errors, examples
from api.errors import TYPE_PREFIX, Problem
from api.explained import EXPLAINED

FILE = Path(__file__).with_name("openapi.json")

DESCRIPTION = """Orders in, one record each to the log; their stories out.

- **Every change is accepted with `202`** once it is on the log; what becomes of it is told by the order's story.
- **`Idempotency-Key`**: a fresh UUID for each thing to be done, the same one for each retry of it. The first answer is
  given again for a day, with `Idempotency-Replayed: true`. After that, or when everything was lost meanwhile, a retry
  still names the same order, which is placed once: a key is the whole tenant's, and for ever.
- **Refusals** are problems (RFC 9457) whose `type` is stable and an address that explains it. `Retry-After` is there
  wherever waiting helps.
- **`X-Correlation-Id`** and `traceparent` (W3C Trace Context) travel through every fact of the order, and come back.
- **Bounds**: a body has 64 KiB and 10 seconds, an order 100 lines, a page 100 orders, a stream 15 minutes (it is taken
  up again by `Last-Event-ID`), a wait 20 seconds.
- **Limits**: reading costs 1 unit (dead letters 5, what is overdue 10), writing 5. How many units your address, you and
  your tenant have is in `RateLimit-Policy` of every answer, how many are left in `RateLimit` (IETF draft); beyond them
  the answer is `429`.
- **Versions**: within `/v1` things are only added. What will go is marked by `Deprecation` (RFC 9745) and `Sunset`
  (RFC 8594).
"""
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT (RFC 9068)",
    "description": "An access token of the shop's identity provider; each operation names the scope that it needs.",
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": '^("[!#-~]{1,255}"|[!#-~]{1,255})$', "maxLength": 257},
    "description": "A new one for each thing to be done, the same one for a retry of it: as it is, or as a String of "
    "RFC 9651 without parameters, in which a backslash is written twice. Two headers are refused. A key is the whole "
    "tenant's and for ever, whoever of it used it: take a fresh UUID.",
    "example": "5f8a1f0e-6d0c-4c39-9b0a-2f2a1a3b7c10",
}
_CORRELATION = {
    "name": "X-Correlation-Id",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "Your own id of this request, 1 to 128 of A-Z a-z 0-9 . _ : -; else one is made. It comes back, and "
    "is on every fact and log line.",
}
_TRACEPARENT = {
    "name": "traceparent",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "W3C Trace Context; it goes into every fact that follows, and comes back. One that is not by the "
    "standard is left out, and so is tracestate.",
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `type` is stable, and the address of its explanation; `errors` says what is wrong where.",
    "required": ["type", "title", "status", "detail", "correlation_id"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "examples": [TYPE_PREFIX + slug for slug in EXPLAINED],
        },
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "correlation_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "pointer": {
                        "type": "string",
                        "description": "into the body (RFC 6901)",
                        "examples": ["#/lines/0/sku"],
                    },
                    "parameter": {"type": "string", "examples": ["path/sku"]},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
_HEADERS = {
    "Location": "Where to follow what was accepted.",
    "Idempotency-Replayed": "'true' when this is the first answer under the key, given again.",
    "ETag": "Of what is shown; for If-None-Match.",
    "Preference-Applied": "The wait that was applied.",
    "Deprecation": "Since when this is deprecated (RFC 9745).",
    "Sunset": "When this will be gone (RFC 8594).",
    "Link": "The next page (rel=next), or the explanation of a problem (rel=help).",
    "RateLimit": "How much is left of each limit, and in how many seconds it is whole again (IETF draft).",
    "RateLimit-Policy": "What the limits are (IETF draft).",
    "Retry-After": "Seconds after which asking again helps.",
    "WWW-Authenticate": "What is wrong with the token, or the scope that is missing (RFC 6750).",
    "X-Correlation-Id": "The id of this request, also in its facts and logs.",
}
# What each route may say beside what all of them may.
_REPLAYABLE = (errors.BadIdempotencyKey, errors.StillRunning, errors.KeyReused)
_WRITING = (errors.NotAccepted, errors.OutcomeUnknown)
_BODY = (
    errors.MalformedBody,
    errors.UnsupportedMediaType,
    errors.InvalidRequest,
    errors.BodyTooLarge,
    errors.BodyTooSlow,
)
_ALL = (
    errors.Unauthenticated,
    errors.Forbidden,
    errors.LimitReached,
    errors.KeysAway,
    errors.Overloaded,
    errors.Unexpected,
)
_STREAMING = (errors.Unavailable, errors.TooManyStreams, errors.InvalidRequest)
_OF: dict[str, tuple[type[Problem], ...]] = {
    "post /v1/orders": (*_REPLAYABLE, errors.Unavailable, errors.BeingForgotten, *_WRITING, *_BODY),
    "get /v1/orders": (errors.Unavailable, errors.InvalidRequest),
    "get /v1/orders/{order_id}": (errors.NoSuchOrder, errors.Unavailable),
    "post /v1/orders/{order_id}/cancellation": (errors.NoSuchOrder, errors.Unavailable, *_WRITING),
    "get /v1/orders/events": (errors.EventsGone, errors.BeingForgotten, *_STREAMING),
    "get /v1/orders/{order_id}/events": (errors.NoSuchOrder, *_STREAMING),
    "get /v1/stock/{sku}": (errors.NoSuchItem, errors.Unavailable, errors.InvalidRequest),
    "post /v1/stock/{sku}/receipts": (*_REPLAYABLE, *_WRITING, *_BODY),
    "get /v1/prices/{sku}": (errors.NoSuchItem, errors.Unavailable, errors.InvalidRequest),
    "put /v1/prices/{sku}": (*_REPLAYABLE, *_WRITING, *_BODY),
    "get /v1/overdue": (errors.Unavailable, errors.InvalidRequest),
    "get /v1/dead-letters": (errors.Unavailable, errors.InvalidRequest),
    "get /v1/dead-letters/{service}/{partition}/{number}": (
        *(errors.NoSuchDeadLetter, errors.Unavailable, errors.InvalidRequest),
    ),
    "post /v1/dead-letters/{service}/{partition}/{number}/redrive": (
        *(errors.NoSuchDeadLetter, errors.WaitsBehind, errors.Unavailable, *_BODY),
    ),
    "get /health/deep": (),
}
# Which routes take a key, and whether they need it.
_KEYS = {"post /v1/orders": True, "post /v1/stock/{sku}/receipts": True, "put /v1/prices/{sku}": False}
_SUCCESS_HEADERS = {
    "post /v1/orders": ("Location", "Idempotency-Replayed"),
    "post /v1/orders/{order_id}/cancellation": ("Location",),
    "post /v1/stock/{sku}/receipts": ("Location", "Idempotency-Replayed"),
    "put /v1/prices/{sku}": ("Location", "Idempotency-Replayed"),
    "post /v1/dead-letters/{service}/{partition}/{number}/redrive": ("Location",),
    "get /v1/orders": ("Link",),
    "get /v1/orders/{order_id}": ("ETag", "Preference-Applied"),
}
_LIMITS = ("RateLimit", "RateLimit-Policy")
_THIS_ORDER = ("order_id", "$response.body#/order_id")
_THIS_ITEM = ("sku", "$response.body#/sku")
_FOLLOW = ("order_story", "cancel_order", "events_of_order")
# What may be asked next about what an answer tells of: its parameter, where that stands, the operations.
_LINKS: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "post /v1/orders": (_THIS_ORDER, _FOLLOW),
    "get /v1/orders/{order_id}": (_THIS_ORDER, _FOLLOW[1:]),
    "post /v1/orders/{order_id}/cancellation": (_THIS_ORDER, (_FOLLOW[0], _FOLLOW[2])),
    "post /v1/stock/{sku}/receipts": (_THIS_ITEM, ("stock_of",)),
    "get /v1/stock/{sku}": (_THIS_ITEM, ("receive_stock", "price_of")),
    "put /v1/prices/{sku}": (_THIS_ITEM, ("price_of",)),
    "get /v1/prices/{sku}": (_THIS_ITEM, ("set_price", "stock_of")),
}


def install(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Make `app`, which has these routers, describe itself in full."""
    scopes = {name: scope for router in routers for name, scope in _scopes(router)}

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app, scopes)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _description(app: FastAPI, scopes: Mapping[str, str | None]) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    schema["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    schema["servers"] = [{"url": "/"}]
    parts = schema["components"]
    parts["securitySchemes"] = {"bearer": _BEARER}
    parts["schemas"]["Problem"] = _PROBLEM
    parts["headers"] = {name: {"description": said, "schema": {"type": "string"}} for name, said in _HEADERS.items()}
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    for name, example in examples.OF_SCHEMAS.items():
        parts["schemas"][name]["examples"] = [example]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            _complete(operation, f"{method} {path}", scopes.get(f"{method} {path}"))
    return schema


def _complete(operation: dict[str, Any], name: str, scope: str | None) -> None:
    """Everything that is not in the signature of the route `name` (method and path)."""
    responses = operation["responses"]
    responses.pop("422", None)
    success = next(iter(responses))
    if "text/event-stream" in responses[success].get("content", {}):
        responses[success]["content"] = {"text/event-stream": {"schema": {"type": "string"}, "example": examples.EVENT}}
    headers = [*_SUCCESS_HEADERS.get(name, ()), "X-Correlation-Id"]
    responses[success].setdefault("headers", {}).update(_header_refs(headers))
    if scope is None:
        return
    responses[success]["headers"].update(_header_refs(_LIMITS))
    if "204" in responses:
        responses["204"]["headers"] = _header_refs(["X-Correlation-Id", *_LIMITS])
    operation["security"] = [{"bearer": [scope]}]
    operation["description"] += f"\n\nNeeds the scope `{scope}`."
    parameters = operation.setdefault("parameters", [])
    if name in _KEYS:
        parameters.append({**_KEY, "required": _KEYS[name]})
    parameters += [_CORRELATION, _TRACEPARENT]
    if name == "get /v1/orders/{order_id}":
        unchanged = _header_refs(["ETag", "X-Correlation-Id", *_LIMITS])
        responses["304"] = {"description": "Not changed.", "headers": unchanged}
    if name in _LINKS:
        found, follow = _LINKS[name]
        responses[success]["links"] = {link: {"operationId": link, "parameters": dict([found])} for link in follow}
    for status, kinds in _by_status((*_ALL, *_OF[name])).items():
        said = responses.get(str(status), {}).get("content", {})
        responses[str(status)] = _refused(kinds)
        responses[str(status)]["content"] |= said
    # A proxy in between may answer for us.
    responses["default"] = _refused([Problem])
    operation["responses"] = dict(sorted(responses.items(), key=lambda item: item[0]))


def _refused(kinds: Iterable[type[Problem]]) -> dict[str, Any]:
    shown = {kind.slug: examples.of_problem(kind) for kind in kinds}
    headers = sorted({name for problem in shown.values() for name in problem.headers} & _HEADERS.keys())
    content = {
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": {slug: {"value": problem.document("web-42")} for slug, problem in shown.items()},
    }
    return {
        "description": "; or ".join(dict.fromkeys(problem.title for problem in shown.values())) + ".",
        "headers": _header_refs([*headers, "Link", "X-Correlation-Id"]),
        "content": {"application/problem+json": content},
    }


def _header_refs(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _by_status(kinds: Iterable[type[Problem]]) -> dict[int, list[type[Problem]]]:
    found: dict[int, list[type[Problem]]] = defaultdict(list)
    for kind in kinds:
        found[kind.status].append(kind)
    return found


def _scopes(router: APIRouter) -> Iterator[tuple[str, str | None]]:
    """By method and path: the scope that the route's caller needs."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            found = (getattr(each.call, "scope", None) for each in route.dependant.dependencies)
            scope = next((scope for scope in found if scope is not None), None)
            yield from ((f"{method.lower()} {route.path}", scope) for method in route.methods or ())


def written(description: Mapping[str, Any]) -> str:
    """As it is kept in `FILE`."""
    return json.dumps(description, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    from api.app import routed

    FILE.write_text(written(routed().openapi()), encoding="utf-8")
