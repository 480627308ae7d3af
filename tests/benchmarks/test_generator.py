"""The open loop of the latency benchmark: a rate that is not kept up with is told, with no trace or wrong figure."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from pavane.bench import generator
from pavane.bench.generator import Generator, Plan
from pavane.bench.proof import NotProven
from pavane.bench.scenarios.latency import not_kept_up

RATE, ORDERS = 1_000.0, 50


def plan(port: int, connections: int = 2) -> Plan:
    url = f"http://127.0.0.1:{port}"
    return Plan(url=url, tokens=["t"], rate=RATE, orders=ORDERS, goods=3, connections=connections, seed="s")


@asynccontextmanager
async def a_gateway(answers: Callable[[int], int | None]) -> AsyncIterator[int]:
    """A server on a free port that answers question number n with that status, or never."""
    asked, serving = 0, set[asyncio.Task[object]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        if (task := asyncio.current_task()) is not None:
            serving.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
                asked += 1
                if (status := answers(asked)) is None:
                    await asyncio.Event().wait()
                body = json.dumps({"order_id": f"order-{asked}"}).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def run(answers: Callable[[int], int | None]) -> dict[str, object]:
    async with a_gateway(answers) as port:
        made = Generator(plan(port))
        await made.run()
        return {"noted": made.noted, "unsent": made.unsent}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "MOST_WAITING", 20)
    monkeypatch.setattr(generator, "ANSWER_SECONDS", 0.3)


async def test_what_is_accepted_in_time_is_measured() -> None:
    found = await run(lambda _: 202)
    assert found["unsent"] == 0
    assert not_kept_up(RATE, ORDERS, found) is None


async def test_when_too_many_orders_wait_no_more_are_sent_and_the_rate_is_told_as_too_high() -> None:
    found = await run(lambda number: 202 if number <= 10 else None)

    too_high = not_kept_up(RATE, ORDERS, found)

    assert too_high is not None
    # Orders whose answer is on its way count among those that wait, so a busy machine sends fewer.
    assert len(too_high.accepted) == 10
    assert 20 - 10 <= too_high.unanswered <= 20
    assert too_high.sent == 10 + too_high.unanswered == ORDERS - int(str(found["unsent"])) < ORDERS
    assert f"1,000/s was not kept up with: of 50 orders {too_high.sent} were sent" in too_high.told()


async def test_orders_that_are_refused_for_now_are_no_accepted_ones() -> None:
    too_high = not_kept_up(RATE, ORDERS, await run(lambda number: 503 if number % 2 else 202))
    assert too_high is not None
    assert (len(too_high.accepted), too_high.refused, too_high.unanswered) == (25, 25, 0)
    assert "of 50 orders 50 were sent; 25 were accepted, 25 refused for now" in too_high.told()


async def test_any_other_refusal_is_no_question_of_speed() -> None:
    with pytest.raises(NotProven, match="50 orders were not accepted, the first with"):
        not_kept_up(RATE, ORDERS, await run(lambda _: 422))


async def test_a_gateway_that_is_not_there_answers_nothing() -> None:
    made = Generator(plan(1, connections=0))
    await made.run()
    # As above: a busy machine sends fewer.
    assert [status for *_, status, _ in made.noted] == [0] * (ORDERS - made.unsent)
    assert made.noted
