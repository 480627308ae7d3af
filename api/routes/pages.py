"""Pages for people: the API, and every type of problem at the address that its `type` is; the API also as data."""

from functools import lru_cache
from typing import NamedTuple

import msgspec
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from api import html
from api.answers import json_answer
from api.errors import TYPE_PREFIX, NoSuchRoute
from api.explained import EXPLAINED, types

router = APIRouter(include_in_schema=False)
reference_router = APIRouter(include_in_schema=False)


class Reference(NamedTuple):
    """The description of an application: as a page, and as data."""

    page: str
    data: bytes


@lru_cache(maxsize=1)
def reference_of(app: FastAPI) -> Reference:
    """Written once: it is long, and everybody may ask for it."""
    description = app.openapi()
    return Reference(html.reference(description), msgspec.json.encode(description))


@reference_router.get("/docs")
async def reference(request: Request) -> Response:
    return _page(reference_of(request.app).page)


@reference_router.get("/openapi.json")
async def description(request: Request) -> Response:
    return json_answer(reference_of(request.app).data, 200)


@router.get(TYPE_PREFIX)
async def problems() -> Response:
    return _page(html.problems())


@router.get(TYPE_PREFIX + "{slug}")
async def problem(slug: str) -> Response:
    kind = next((kind for kind in types() if kind.slug == slug and slug in EXPLAINED), None)
    if kind is None:
        raise NoSuchRoute(f"There is no such type of problem; {TYPE_PREFIX} lists all.")
    return _page(html.problem(kind))


def _page(text: str) -> Response:
    headers = {"Content-Security-Policy": html.POLICY, "Cache-Control": "public, max-age=3600"}
    return Response(text, headers=headers, media_type="text/html")
