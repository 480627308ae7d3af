"""Servers that are killed and come back while orders flow: the worker comes back by itself, and nothing is lost."""

import pytest

from infra.stack import Stack
from tests.kit.running import KEYS, PARTITIONS, Counting
from tests.waiting import eventually


async def test_a_worker_comes_back_by_itself_when_the_database_was_restarted_under_load(
    stack: Stack, counting: Counting
) -> None:
    if stack.postgres is None:
        pytest.skip("the database is not ours to kill")
    instance = await counting.start(batch_records=20)
    await counting.ask(*((key, 1) for key in KEYS for _ in range(50)))
    await eventually(lambda: _some(counting))
    before = await counting.epochs()
    stack.postgres.kill()
    assert not stack.postgres.is_running
    await counting.ask(*((key, 1) for key in KEYS for _ in range(50)))
    await eventually(lambda: not instance.readiness()["ready"])
    assert "the database does not answer" in instance.readiness()["away"][0]
    await stack.postgres.start()

    await counting.until_totals(dict.fromkeys(KEYS, 100), within_seconds=60)
    assert await counting.said() == dict.fromkeys(KEYS, 100)
    assert all(epoch > before[partition] for partition, epoch in (await counting.epochs()).items())
    await eventually(lambda: instance.readiness()["ready"])
    assert set(before) == set(range(PARTITIONS))


async def test_a_worker_comes_back_by_itself_when_the_broker_was_restarted_under_load(
    stack: Stack, counting: Counting
) -> None:
    if not stack.kafka:
        pytest.skip("the broker is not ours to kill")
    await counting.start(batch_records=20)
    await counting.ask(*((key, 1) for key in KEYS for _ in range(50)))
    await eventually(lambda: _some(counting))
    stack.kafka[0].kill()
    assert not stack.kafka[0].is_running
    await stack.kafka[0].start()
    await counting.ask(*((key, 1) for key in KEYS for _ in range(50)))

    await counting.until_totals(dict.fromkeys(KEYS, 100), within_seconds=60)
    assert await counting.said() == dict.fromkeys(KEYS, 100)


async def _some(counting: Counting) -> bool:
    return sum((await counting.totals()).values()) > 20
