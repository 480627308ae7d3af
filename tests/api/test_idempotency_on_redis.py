"""The life of a key in real Redis: begun, answered, released, taken over."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis.asyncio import Redis

from api import idempotency, shared_memory
from api.errors import KeyReused, NotAccepted, StillRunning
from api.idempotency import Answer, Claim, Idempotency, claim
from tests.api.conftest import eventually, new_key

ANSWER = Answer(202, "/v1/orders/1", msgspec.Raw(b'{"order_id":"1"}'))
OTHER_ANSWER = Answer(202, "/v1/orders/2", msgspec.Raw(b'{"order_id":"2"}'))


@pytest.fixture
async def keys(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Idempotency]:
    # A busy machine may take longer than a gateway waits.
    monkeypatch.setattr(shared_memory, "TIMEOUT_SECONDS", 30.0)
    keys = Idempotency(environment["PAVANE_REDIS"])
    yield keys
    await keys.close()


@pytest.fixture
async def redis(environment: dict[str, str]) -> AsyncIterator[Redis]:
    async with Redis.from_url(environment["PAVANE_REDIS"]) as redis:
        yield redis


class Work:
    """A request under way, whose end the test decides."""

    def __init__(self, keys: Idempotency, wanted: Claim, answer: Answer = ANSWER) -> None:
        self.began = asyncio.Event()
        self.end = asyncio.Event()
        self._answer = answer
        self.done = asyncio.create_task(keys.once(wanted, self._act))

    async def _act(self) -> Answer:
        self.began.set()
        await self.end.wait()
        return self._answer


def attempt(name: str, body: str = "{}") -> Claim:
    return claim(name, "shop/c7", body)


async def never() -> Answer:
    raise AssertionError("this must not run")


async def answering() -> Answer:
    return ANSWER


async def refusing() -> Answer:
    raise NotAccepted


def row(name: str) -> str:
    return f"pavane:gateway:once:{name}"


async def test_the_first_answer_is_given_again(keys: Idempotency):
    name = new_key()

    assert await keys.once(attempt(name), answering) == (ANSWER, False)
    assert await keys.once(attempt(name), never) == (ANSWER, True)


async def test_while_the_first_runs_a_second_is_told_to_wait(keys: Idempotency):
    name = new_key()
    first = Work(keys, attempt(name))
    await first.began.wait()

    with pytest.raises(StillRunning):
        await keys.once(attempt(name), never)

    first.end.set()
    assert await first.done == (ANSWER, False)
    assert await keys.once(attempt(name), never) == (ANSWER, True)


async def test_another_body_is_refused_running_or_answered(keys: Idempotency):
    name = new_key()
    first = Work(keys, attempt(name))
    await first.began.wait()

    with pytest.raises(KeyReused):
        await keys.once(attempt(name, "other"), never)
    first.end.set()
    await first.done
    with pytest.raises(KeyReused):
        await keys.once(attempt(name, "other"), never)


async def test_a_failed_request_leaves_the_key_free(keys: Idempotency, redis: Redis):
    name = new_key()

    with pytest.raises(NotAccepted):
        await keys.once(attempt(name), refusing)

    assert await redis.exists(row(name)) == 0
    assert await keys.once(attempt(name), answering) == (ANSWER, False)


async def test_a_request_that_was_broken_off_leaves_the_key_free(keys: Idempotency, redis: Redis):
    name = new_key()
    first = Work(keys, attempt(name))
    await first.began.wait()

    first.done.cancel()
    await asyncio.gather(first.done, return_exceptions=True)

    assert await redis.exists(row(name)) == 0


async def test_a_lease_ends_by_itself_and_the_late_first_does_not_overwrite(
    keys: Idempotency, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    name = new_key()
    monkeypatch.setattr(idempotency, "LEASE_MS", 50)
    first = Work(keys, attempt(name))
    await first.began.wait()

    async def lease_ended() -> bool:
        return await redis.exists(row(name)) == 0

    await eventually(lease_ended)
    monkeypatch.setattr(idempotency, "LEASE_MS", 30_000)
    second = Work(keys, attempt(name), OTHER_ANSWER)
    await second.began.wait()

    first.end.set()
    await first.done
    with pytest.raises(StillRunning):
        await keys.once(attempt(name), never)
    second.end.set()
    await second.done
    assert await keys.once(attempt(name), never) == (OTHER_ANSWER, True)


async def test_a_late_failure_does_not_release_the_lease_of_another(
    keys: Idempotency, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    name = new_key()
    first = Work(keys, attempt(name))
    await first.began.wait()
    await redis.delete(row(name))
    second = Work(keys, attempt(name))
    await second.began.wait()

    first.done.cancel()
    await asyncio.gather(first.done, return_exceptions=True)

    assert await redis.hget(row(name), "state") == b"running"
    second.end.set()
    await second.done


async def test_an_answer_whose_lease_ended_unnoticed_is_kept_all_the_same(keys: Idempotency, redis: Redis):
    name = new_key()
    first = Work(keys, attempt(name))
    await first.began.wait()
    await redis.delete(row(name))

    first.end.set()
    await first.done

    assert await keys.once(attempt(name), never) == (ANSWER, True)


async def test_beginning_twice_as_one_attempt_is_beginning_once(keys: Idempotency):
    """A client library that lost the reply sends the same call again."""
    wanted = attempt(new_key())
    first = Work(keys, wanted)
    await first.began.wait()

    again = Work(keys, wanted)
    await again.began.wait()

    first.end.set()
    again.end.set()
    await asyncio.gather(first.done, again.done)


async def test_answers_are_kept_for_a_day_and_leases_for_seconds(keys: Idempotency, redis: Redis):
    name = new_key()
    first = Work(keys, attempt(name))
    await first.began.wait()
    assert 0 < await redis.pttl(row(name)) <= idempotency.LEASE_MS

    first.end.set()
    await first.done

    assert idempotency.LEASE_MS < await redis.pttl(row(name)) <= idempotency.KEEP_MS


async def test_only_an_answered_request_was_accepted_and_only_of_who_asked(keys: Idempotency):
    name = new_key()
    first = Work(keys, attempt(name))
    await first.began.wait()
    assert not await keys.was_accepted(name, "shop/c7")

    first.end.set()
    await first.done

    assert await keys.was_accepted(name, "shop/c7")
    assert not await keys.was_accepted(name, "shop/c8")
    assert not await keys.was_accepted(new_key(), "shop/c7")


async def test_a_rush_of_requests_is_not_taken_for_an_absence_of_redis(keys: Idempotency):
    wanted = [attempt(new_key()) for _ in range(400)]
    await asyncio.gather(*(keys.once(each, answering) for each in wanted))

    again = await asyncio.gather(*(keys.once(each._replace(owner=new_key()), never) for each in wanted))

    assert all(kept for _, kept in again)
