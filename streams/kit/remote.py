"""An outside world that is asked over HTTP: one POST a question, under the effect's key.

    POST {url}/AuthorizePayment                 200 {"key": "payment/7", "outcome": "Authorized",
    Idempotency-Key: payment/7                       "answer": {"reference": "pay_1"}}
    {"order_id": "7", "amount": ...}

Whatever else comes back (another status, bytes that cannot be read, over 64 KiB, a NUL character, an answer to another
question, nothing in time) is no answer: it leaves that one effect `Unanswered`, to be asked again under the same key,
and all others as they are.
Nothing, or a gateway's word that nothing came back to it, is `Unreached`. A round begins questions for a while, as many
at once as there are places; those that did not come to one are `Unasked`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from streams.kit.effects import answers_of
from streams.kit.errors import WorldUnavailable
from streams.kit.events import Answer, Effect, Unanswered, Unasked, Unreached
from streams.kit.parking import LONGEST_RETRY_AFTER_SECONDS
from streams.kit.service import Service

#: Of one question, and for how long a round begins new ones. Together shorter than a dependency's timeout (`policies`),
#: which would lose all answers of the round.
CALL_SECONDS = 2.0
BEGINNING_SECONDS = 2.0
QUESTIONS_AT_ONCE = 16
#: Bad gateway, unavailable, gateway timeout: said in place of somebody who does not answer.
NOBODY_THERE = frozenset({502, 503, 504})
#: Of an answer's body, which is never unpacked. A text that is longer could be told in no fact.
MOST_ANSWER_BYTES = 65_536
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class _Answered(msgspec.Struct):
    key: str
    outcome: str
    answer: msgspec.Raw


class NoAnswer(WorldUnavailable):
    """What came back to one question does not answer it."""


@asynccontextmanager
async def remote_world(service: Service, url: str) -> "AsyncIterator[RemoteWorld]":
    """The world of `service` at this address."""
    # Each question has a connection of its own: a second answer on a kept one would be taken for the next question's.
    limits = httpx.Limits(max_connections=QUESTIONS_AT_ONCE, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=CALL_SECONDS, limits=limits) as http:
        yield RemoteWorld(service, http)


class RemoteWorld:
    """A `World` of questions over HTTP. It never raises `WorldUnavailable`: see `Unanswered`."""

    def __init__(self, service: Service, http: httpx.AsyncClient) -> None:
        self._http = http
        self._answers = {
            effect: {answer.__name__: msgspec.json.Decoder(answer) for answer in answers_of(service, effect)}
            for effect in service.answering
        }
        self._places = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        """Answer all effects, in their order; the first of them are asked first."""
        until = asyncio.get_running_loop().time() + BEGINNING_SECONDS
        return await asyncio.gather(*(self._ask(effect, until) for effect in effects))

    async def _ask(self, effect: Effect, until: float) -> Answer:
        async with self._places:
            if asyncio.get_running_loop().time() >= until:
                return Unasked(
                    reason=f"not asked yet: others came first, {QUESTIONS_AT_ONCE} at once for {BEGINNING_SECONDS:g} s"
                )
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    return await self._answer(effect)
            except NoAnswer as error:
                return Unanswered(reason=str(error))
            except TimeoutError:
                return Unreached(reason=f"no answer within {CALL_SECONDS:g} s; what was asked may have been done")
            except httpx.HTTPError as error:
                return Unreached(reason=f"{self._http.base_url} does not answer: {error!r}")
            except Exception as error:
                # Whatever a library makes of what came back (JSON too deep, no text): others are answered.
                return Unanswered(reason=f"its answer cannot be read: {error!r}")

    async def _answer(self, effect: Effect) -> Answer:
        headers = {"Idempotency-Key": effect.key, **HEADERS}
        question = msgspec.json.encode(effect)
        async with self._http.stream("POST", f"/{type(effect).__name__}", headers=headers, content=question) as answer:
            if answer.status_code != httpx.codes.OK:
                unanswered = Unreached if answer.status_code in NOBODY_THERE else Unanswered
                reason = f"it answers {answer.status_code} {answer.reason_phrase}"
                return unanswered(reason=reason, retry_after_seconds=retry_after_seconds(answer))
            return self._read(effect, await _body(answer))

    def _read(self, effect: Effect, body: bytes) -> Answer:
        try:
            answered = _decoder.decode(body)
            if answered.key != effect.key:
                raise NoAnswer(f"it answers a question about {answered.key!r}, asked was {effect.key!r}")
            decoder = self._answers[type(effect)].get(answered.outcome)
            if decoder is None:
                raise NoAnswer(f"{answered.outcome!r} is no answer to {type(effect).__name__}")
            answer: Answer = decoder.decode(answered.answer)
            if why := _not_keepable(msgspec.to_builtins(answer)):
                raise NoAnswer(f"its answer cannot be kept: {why}")
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NoAnswer(f"its answer cannot be read: {error}") from error
        return answer


_decoder = msgspec.json.Decoder(_Answered)


async def _body(answer: httpx.Response) -> bytes:
    """Raises `NoAnswer`."""
    body = bytearray()
    try:
        async for part in answer.aiter_raw():
            body += part
            if len(body) > MOST_ANSWER_BYTES:
                raise NoAnswer(f"its answer takes over {MOST_ANSWER_BYTES} bytes")
    except httpx.HTTPError as error:
        raise NoAnswer(f"its answer breaks off: {error!r}") from error
    return bytes(body)


def _not_keepable(value: Any) -> str:
    """What no fact or row can hold: it would be refused when it is written down, at each redrive again."""
    match value:
        case str() if "\0" in value:
            return "a text has a NUL character"
        case int() if not -(2**63) <= value < 2**63:
            return "a number has more than 64 bits"
        case dict() | list():
            each = value.values() if isinstance(value, dict) else value
            return next(filter(None, map(_not_keepable, each)), "")
    return ""


def retry_after_seconds(answer: httpx.Response) -> float:
    """What its `Retry-After` says (RFC 9110, 10.2.3: seconds, or a date), within bounds; 0 when it says nothing."""
    said = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(said) if said.isdecimal() else (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
