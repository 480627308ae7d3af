"""`/openapi.json`: what the routes' signatures do not say, as they are read leanly: tokens, keys, problems."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT (RFC 9068)"}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "A new one for each thing to be done, the same one for a retry of it.",
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `type` is stable; `errors` says what is wrong with a body.",
    "required": ["type", "title", "status", "detail", "correlation_id"],
    "properties": {
        "type": {"type": "string", "example": "urn:pavane:problem:no-such-order"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "correlation_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": {"type": "string", "example": "#/lines/0/quantity"},
                    "parameter": {"type": "string", "example": "path/sku"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
_REFUSED = {
    "description": "A problem.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
# Which routes take a key, and whether they need it.
_KEYS = {
    ("/v1/orders", "post"): True,
    ("/v1/stock/{sku}/receipts", "post"): True,
    ("/v1/prices/{sku}", "put"): False,
}


def install(app: FastAPI) -> None:
    """Make `app` describe itself in full."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _description(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    parts = schema["components"]
    parts["securitySchemes"] = {"bearer": _BEARER}
    parts["schemas"]["Problem"] = _PROBLEM
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSED
            if path.startswith("/v1/"):
                operation["security"] = [{"bearer": []}]
            if (path, method) in _KEYS:
                required = _KEYS[path, method]
                operation.setdefault("parameters", []).append({**_KEY, "required": required})
    return schema
