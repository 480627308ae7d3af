"""An outside world that is asked over HTTP: one POST a question, under the effect's key.

    POST {url}/AuthorizePayment                 200 {"key": "payment/7", "outcome": "Authorized",
    Idempotency-Key: payment/7                       "answer": {"reference": "pay_1"}}
    {"order_id": "7", "amount": ...}

Whatever else comes back (another status, bytes that cannot be read, an answer to another question, nothing in time)
is no answer: it leaves that one effect `Unanswered`, to be asked again under the same key, and all others as they are.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import msgspec

from streams.kit.effects import answers_of
from streams.kit.errors import WorldUnavailable
from streams.kit.events import Answer, Effect, Unanswered
from streams.kit.parking import LONGEST_RETRY_AFTER_SECONDS
from streams.kit.service import Service

#: Of one question, and of a round of them: shorter than a dependency's timeout (`policies`), which would lose them all.
CALL_SECONDS = 2.0
ROUND_SECONDS = 4.0
QUESTIONS_AT_ONCE = 16


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
        """Answer all effects, in their order, within `ROUND_SECONDS`."""
        asking = [asyncio.create_task(self._ask(effect)) for effect in effects]
        try:
            if asking:
                await asyncio.wait(asking, timeout=ROUND_SECONDS)
            late = Unanswered(reason=f"no answer within {ROUND_SECONDS:g} s; what was asked may have been done")
            return [each.result() if each.done() else late for each in asking]
        finally:
            for each in asking:
                each.cancel()

    async def _ask(self, effect: Effect) -> Answer:
        async with self._places:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    return await self._answer(effect)
            except NoAnswer as error:
                return Unanswered(reason=str(error), retry_after_seconds=error.retry_after_seconds)
            except TimeoutError:
                reason = f"no answer within {CALL_SECONDS:g} s; what was asked may have been done"
            except httpx.HTTPError as error:
                reason = f"{self._http.base_url} does not answer: {error!r}"
            except Exception as error:
                # Whatever a library makes of what came back (JSON too deep, a date that is none): others are answered.
                reason = f"its answer cannot be read: {error!r}"
            return Unanswered(reason=reason)

    async def _answer(self, effect: Effect) -> Answer:
        headers = {"Idempotency-Key": effect.key, "Content-Type": "application/json"}
        body = msgspec.json.encode(effect)
        answer = await self._http.post(f"/{type(effect).__name__}", headers=headers, content=body)
        if answer.status_code != httpx.codes.OK:
            raise NoAnswer(f"it answers {answer.status_code} {answer.reason_phrase}", retry_after_seconds(answer))
        return self._read(effect, answer.content)

    def _read(self, effect: Effect, body: bytes) -> Answer:
        try:
            answered = _decoder.decode(body)
            if answered.key != effect.key:
                raise NoAnswer(f"it answers a question about {answered.key!r}, asked was {effect.key!r}")
            decoder = self._answers[type(effect)].get(answered.outcome)
            if decoder is None:
                raise NoAnswer(f"{answered.outcome!r} is no answer to {type(effect).__name__}")
            answer: Answer = decoder.decode(answered.answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise NoAnswer(f"its answer cannot be read: {error}") from error
        return answer


_decoder = msgspec.json.Decoder(_Answered)


def retry_after_seconds(answer: httpx.Response) -> float:
    """What its `Retry-After` says (RFC 9110, 10.2.3: seconds, or a date), within bounds; 0 when it says nothing."""
    said = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(said) if said.isdecimal() else (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
