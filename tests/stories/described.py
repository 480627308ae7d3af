"""Hooks of schemathesis: what a description in JSON Schema cannot say of a request, and how links find real orders."""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import uuid4

import schemathesis
from pydantic_core import PydanticCustomError

from api.bodies import plain_text

KEY = re.compile(r'"[!#-~]{1,255}"|[!#-~]{1,255}')
RUN = uuid4().hex[:12]
NUMBERS = count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """A key is new for each thing to be done: with that of another request the answer is 422, as the IETF draft says.

    Only the beginning changes, so that keys of every length and with every character are sent; between quotes a
    backslash is written twice (RFC 9651).
    """
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and KEY.fullmatch(key):
        fresh = f"{RUN}.{next(NUMBERS)}."
        plain = key.strip('"')
        fresh += plain[len(fresh) :]
        case.headers["Idempotency-Key"] = '"{}"'.format(fresh.replace("\\", "\\\\")) if key.startswith('"') else fresh


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Texts have no control characters and are not blank: the description says it in words (`api.bodies`)."""
    return not case.meta.generation.mode.is_positive or all(map(_is_plain, _texts(case.body)))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _is_plain(text: str) -> bool:
    try:
        plain_text(text)
    except PydanticCustomError:
        return False
    return True
