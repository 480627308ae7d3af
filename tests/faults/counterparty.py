"""A payment provider or a carrier as an HTTP server that misbehaves on request. What it did is in its own database.

    async with Counterparty(billing, SCRIPT, world_url, seed) as party:      # party.url: ask it here
        party.begin(late, busy)         # from now on every third question meets one of these
        ...
        party.behave()

It keeps its promises about keys all the same: what is broken is how it answers.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Self

import msgspec

from streams.kit.events import Effect
from streams.kit.service import Service
from streams.kit.simulation import DATABASE, Script, SimulatedWorld

STRUCK_SHARE = 0.3
RETRY_AFTER_SECONDS = 3
#: So that every order comes to its end while the faults last.
MOST_PER_KEY = 3


class Question(NamedTuple):
    """One question that was read, and how it is done and answered."""

    party: "Counterparty"
    effect: Effect
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def done(self) -> bytes:
        """Do what is asked, as the simulator does it; the answer's bytes."""
        [answer] = await self.party.world.ask([self.effect])
        answered = {"key": self.effect.key, "outcome": type(answer).__name__, "answer": answer}
        return response("200 OK", msgspec.json.encode(answered))


Fault = Callable[[Question], Awaitable[bytes]]


async def late(question: Question) -> bytes:
    """It does what it is asked, and says nothing until the other side has given up."""
    await question.done()
    await question.reader.read()
    return b""


async def failed(question: Question) -> bytes:
    """It does what it is asked, and answers 500."""
    await question.done()
    return response("500 Internal Server Error", b"oops")


async def busy(question: Question) -> bytes:
    """It does nothing, answers 429, and says when to come again."""
    question.party.busy_until[place_of(question.effect)] = time.monotonic() + RETRY_AFTER_SECONDS
    return response("429 Too Many Requests", b"", f"Retry-After: {RETRY_AFTER_SECONDS}")


async def garbage(question: Question) -> bytes:
    """It does what it is asked, and answers 200 with bytes that mean nothing."""
    await question.done()
    return response("200 OK", question.party.luck.randbytes(200))


async def twice(question: Question) -> bytes:
    """It does what it is asked two times, and gives both answers."""
    return await question.done() + await question.done()


async def stranger(question: Question) -> bytes:
    """It does what it is asked, and gives the answer to a question about somebody else."""
    return (await question.done()).replace(question.effect.key.encode(), b"x" * len(question.effect.key))


async def cut(question: Question) -> bytes:
    """It does what it is asked, and the connection breaks before its answer is whole."""
    return (await question.done())[:-5]


FAULTS: Sequence[Fault] = (late, failed, busy, garbage, twice, stranger, cut)


def place_of(effect: Effect) -> tuple[str, str]:
    """One question about one key: what calls it off is another one, and need not wait."""
    return type(effect).__name__, effect.key


def response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Counterparty:
    """The server, from the block's beginning to its end. `struck`: how often each fault happened.

    `impatient`: keys that were asked about again before the time that a 429 named; `patient`: after it.
    """

    def __init__(self, service: Service, script: Script[Any], database: str, seed: int) -> None:
        self.luck = random.Random(seed)
        self.struck: Counter[str] = Counter()
        self.refused = 0
        self.busy_until: dict[tuple[str, str], float] = {}
        self.impatient: list[str] = []
        self.patient: list[str] = []
        self.is_away = False
        #: It does these whenever it is asked, and never says so.
        self.never_answered: frozenset[str] = frozenset()
        self._faults: Sequence[Fault] = ()
        self._of_key: Counter[str] = Counter()
        self._effects = {effect.__name__: effect for effect in service.answering}
        self._playing = SimulatedWorld.playing(script, {DATABASE: database})

    async def __aenter__(self) -> Self:
        self.world = await self._playing.__aenter__()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *ended: Any) -> None:
        self._server.close()
        await self._playing.__aexit__(*ended)

    def begin(self, *faults: Fault) -> None:
        """From now on a share of all questions meets one of these."""
        self._faults = faults

    def behave(self) -> None:
        """No fault any more."""
        self._faults, self.is_away = (), False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that has given up is not there to be answered.
        try:
            with contextlib.suppress(OSError, EOFError):
                if self.is_away:
                    self.refused += 1
                else:
                    writer.write(await self._answer(reader, writer))
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        effect = msgspec.json.decode(body, type=self._effects[head[0].split(" ")[1].strip("/")])
        assert headers["idempotency-key"] == effect.key
        question = Question(self, effect, reader, writer)
        self._note_patience(effect)
        if (name := type(effect).__name__) in self.never_answered:
            self.struck[name] += 1
            return await failed(question)
        if self._faults and self._of_key[effect.key] < MOST_PER_KEY and self.luck.random() < STRUCK_SHARE:
            fault = self.luck.choice(self._faults)
            self._of_key[effect.key] += 1
            self.struck[fault.__name__] += 1
            return await fault(question)
        return await question.done()

    def _note_patience(self, effect: Effect) -> None:
        until = self.busy_until.pop(place_of(effect), None)
        if until is not None:
            (self.patient if time.monotonic() >= until else self.impatient).append(effect.key)
