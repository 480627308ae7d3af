"""Places orders over HTTP at a steady rate, in a process of its own; see `latency`.

    python -m pavane.bench.generator plan.json

An open loop: order number n is due at begin + n / rate, and is sent then, however slow the answers are. What counts
is the time from when it was due, not from when there was room to send it: nothing is omitted because the server made
us wait (Gil Tene, "How NOT to Measure Latency"). Raw HTTP/1.1 on connections that are kept, one question at a time on
each; a new connection is opened when all wait for an answer. When `MOST_WAITING` orders wait at once the rate is not
kept up with: no more are sent, and how many were not is told.
"""

import asyncio
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
import uvloop

MOST_WAITING = 2_000
ANSWER_SECONDS = 60.0
SPIN_SECONDS = 0.0005


class Plan(msgspec.Struct, frozen=True):
    """What to send: `orders` orders, `rate` a second, as the customers that these tokens name. What became of them is
    written to the file `document`."""

    url: str
    tokens: list[str]
    rate: float
    orders: int
    goods: int
    connections: int
    seed: str
    document: str = os.devnull


class Connection(asyncio.Protocol):
    """One kept connection. `ask` sends a question; its answer's status and body come back with the time it came at."""

    def __init__(self, free: list["Connection"]) -> None:
        self._free = free
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes, float]] | None = None
        self._bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio.
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, question: bytes) -> "asyncio.Future[tuple[int, bytes, float]]":
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(question)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        head, found, body = self._bytes.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._bytes = b""
        answer, self._answer = self._answer, None
        self._free.append(self)
        if not answer.done():
            answer.set_result((int(head[9:12]), body, time.time()))

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._free:
            self._free.remove(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the gateway closed the connection"))


class Generator:
    """One run. Every order that was sent is noted: when it was due, when it was answered, how, and its id.

    A status of 0 is an order without an answer: nobody knows whether it was accepted. `unsent`: see above.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        parts = urlsplit(plan.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._free: list[Connection] = []
        self._questions = [self._question(number) for number in range(plan.orders)]
        self.noted: list[tuple[float, float, int, str]] = []
        self.unsent = 0

    async def run(self) -> None:
        for _ in range(self._plan.connections):
            self._free.append(await self._connect())
        begin = time.time() + 0.1
        waiting: set[asyncio.Task[None]] = set()
        for number, question in enumerate(self._questions):
            due = begin + number / self._plan.rate
            if (early := due - time.time()) > SPIN_SECONDS:
                await asyncio.sleep(early)
            if len(waiting) >= MOST_WAITING:
                self.unsent = len(self._questions) - number
                break
            task = asyncio.create_task(self._place(due, question))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        if waiting:
            _, silent = await asyncio.wait(waiting, timeout=ANSWER_SECONDS)
            for task in silent:
                task.cancel()
            await asyncio.gather(*silent, return_exceptions=True)

    async def _place(self, due: float, question: bytes) -> None:
        try:
            connection = self._free.pop() if self._free else await self._connect()
            status, body, at = await connection.ask(question)
        except (OSError, asyncio.CancelledError):
            self.noted.append((due, time.time(), 0, "no answer"))
            return
        order_id = json.loads(body)["order_id"] if status == 202 else body[:200].decode(errors="replace")
        self.noted.append((due, at, status, order_id))

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(lambda: Connection(self._free), self._host, self._port))[1]

    def _question(self, number: int) -> bytes:
        plan = self._plan
        luck = random.Random(f"{plan.seed}/{number}")
        count = luck.choices((1, 2, 3), (70, 20, 10))[0]
        body: dict[str, Any] = {
            "lines": [
                {"sku": f"sku-{each}", "quantity": luck.randint(1, 3)} for each in luck.sample(range(plan.goods), count)
            ],
            "currency": "EUR",
            "payment_method": "card-ok",
            "ship_to": {
                "recipient": "Ada Lovelace",
                "street": "Ockham Park 1",
                "postal_code": "10115",
                "city": "Berlin",
                "country": "DE",
            },
        }
        text = json.dumps(body).encode()
        lines = [
            "POST /v1/orders HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            f"Authorization: Bearer {plan.tokens[number % len(plan.tokens)]}",
            f"Idempotency-Key: {plan.seed}-{number}",
            "Content-Type: application/json",
            f"Content-Length: {len(text)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + text


def main() -> None:
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    generator = Generator(plan)
    used = resource.getrusage(resource.RUSAGE_SELF)
    before = used.ru_utime + used.ru_stime
    uvloop.run(generator.run())
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = used.ru_utime + used.ru_stime - before
    document = {"cpu_seconds": cpu_seconds, "noted": generator.noted, "unsent": generator.unsent}
    Path(plan.document).write_text(json.dumps(document))


if __name__ == "__main__":
    main()
