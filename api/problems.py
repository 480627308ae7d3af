"""Every refusal as one RFC 9457 document: typed problems, what FastAPI finds wrong, and mistakes of ours."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.errors import InvalidRequest, MalformedBody, MethodNotAllowed, NoSuchRoute, Problem, Unexpected
from api.head import STREAMS

MOST_ERRORS = 20
_IN_WORDS = {
    "extra_forbidden": "is not a known field",
    "missing": "is missing",
}


def install(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Make `app`, which has these routers, answer all its errors as problems, and leave each in its scope."""

    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            error = _not_allowed(_methods_at(request.scope["path"], routers))
        problem = request.scope["problem"] = problem_of(error)
        return render(problem, str(request.scope.get("correlation", "")))

    for kind in (Problem, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refuse)


def problem_of(error: Exception) -> Problem:
    """The problem that `error` is for the caller."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _of_validation(error.errors())
        case HTTPException(status_code=404):
            return NoSuchRoute("Check the address against the description of the API.")
        case HTTPException(status_code=400):
            return MalformedBody("The body cannot be read as JSON.")
        case _:
            return Unexpected()


def _not_allowed(methods: Iterable[str]) -> Problem:
    allowed = ", ".join(sorted(methods))
    return MethodNotAllowed(f"Allowed here: {allowed}.", headers={"Allow": allowed})


def _methods_at(path: str, routers: Sequence[APIRouter]) -> set[str]:
    """What an address takes by all its routes; the framework tells of the first alone."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    methods = {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
    return methods | {"HEAD"} if "GET" in methods and not path.endswith(STREAMS) else methods


def render(problem: Problem, correlation: str) -> Response:
    """The problem as an answer."""
    # A page for people, beside the address that the type is.
    headers = {"Link": f'<{problem.document(correlation)["type"]}>; rel="help"', **problem.headers}
    body = json.dumps(problem.document(correlation), ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, problem.status, headers, media_type="application/problem+json")


def pointer(path: Sequence[str | int]) -> str:
    """A place in the body as a URI fragment (RFC 6901): `#/lines/0/quantity`."""
    return "#" + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _of_validation(errors: Sequence[Any]) -> Problem:
    if any(error["type"] == "json_invalid" for error in errors):
        return MalformedBody("The body cannot be read as JSON.")
    return InvalidRequest([_described(error) for error in errors[:MOST_ERRORS]])


def _described(error: Any) -> dict[str, str]:
    # Never the value itself: it may be personal data. A field name that the caller made up is cut.
    where, *path = error["loc"]
    detail = _IN_WORDS.get(error["type"], str(error["msg"]))
    if where == "body":
        return {"pointer": pointer([str(step)[:64] for step in path]), "detail": detail}
    return {"parameter": f"{where}/{'/'.join(map(str, path))}", "detail": detail}
