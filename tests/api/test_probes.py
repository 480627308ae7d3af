"""Whether the gateway is ready: each part is asked by itself, and none more often than is good for it."""

import asyncio
from collections import Counter

import pytest

from api import probes
from api.probes import Probe, Probes


async def answers() -> None: ...


async def hangs() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise ConnectionError("127.0.0.1 refused")


async def test_a_part_that_does_not_answer_is_missing_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.05)

    health = await Probes({"kafka": answers, "timeline": hangs, "redis": fails}, dispensable={"redis"}).health()

    assert (health.status, health.missing.keys()) == ("unready", {"timeline", "redis"})


async def test_a_part_that_takes_long_to_be_called_off_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probes, "PROBE_SECONDS", 0.05)
    ends, called_off = asyncio.Event(), asyncio.Event()

    async def lingers() -> None:
        try:
            await hangs()
        finally:
            called_off.set()
            await ends.wait()

    health = await asyncio.wait_for(Probes({"timeline": lingers}).health(), 5)

    assert health.missing.keys() == {"timeline"}
    await called_off.wait()
    ends.set()


async def test_parts_are_asked_at_once_so_that_one_does_not_use_up_the_time_of_another():
    both = asyncio.Barrier(2)

    async def meets() -> None:
        await both.wait()

    assert (await Probes({"kafka": meets, "timeline": meets}).health()).status == "ready"


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ({"kafka": answers, "redis": answers}, "ready"),
        ({"kafka": answers, "redis": fails}, "degraded"),
        ({"kafka": fails, "redis": answers}, "unready"),
    ],
)
async def test_without_what_is_dispensable_the_gateway_is_degraded(parts: dict[str, Probe], status: str):
    assert (await Probes(parts, dispensable={"redis"}).health()).status == status


async def test_an_answer_is_kept_for_all_who_ask_and_then_asked_for_again(monkeypatch: pytest.MonkeyPatch):
    asked: Counter[str] = Counter()

    async def counts() -> None:
        asked["kafka"] += 1

    found = Probes({"kafka": counts})
    monkeypatch.setattr(probes, "KEEP_SECONDS", 3_600.0)
    await asyncio.gather(*(found.health() for _ in range(100)))
    assert asked["kafka"] == 1

    monkeypatch.setattr(probes, "KEEP_SECONDS", 0.0)
    await found.health()
    assert asked["kafka"] == 2
