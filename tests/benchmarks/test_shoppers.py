"""The load: requests are due at a constant pace and count from then, so that a slow answer hides no other."""

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pavane.bench.proof import NotProven
from pavane.bench.scenarios import load
from pavane.bench.scenarios.load import Plan
from pavane.instance import GATEWAY

#: Seconds: one user, a request a second.
PACE = 1.0


def as_it_is(function: Any) -> Any:
    return function


class Locust(ModuleType):
    """What shoppers take of locust, which has an environment of its own."""

    class FastHttpUser:
        def wait(self) -> None:
            self.wait_time()  # type: ignore[attr-defined]

    events = SimpleNamespace(
        request=SimpleNamespace(add_listener=as_it_is), quit=SimpleNamespace(add_listener=as_it_is)
    )

    @staticmethod
    def task(weight: int) -> Callable[[Any], Any]:
        return as_it_is


@pytest.fixture
def shoppers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, at noon, which is 0."""
    monkeypatch.setitem(sys.modules, "locust", Locust("locust"))
    monkeypatch.delitem(sys.modules, "pavane.bench.shoppers", raising=False)
    found: Any = importlib.import_module("pavane.bench.shoppers")
    monkeypatch.delitem(sys.modules, "pavane.bench.shoppers")
    monkeypatch.setattr(found, "time", SimpleNamespace(time=lambda: found.now))
    monkeypatch.setattr(found.Customer, "_come", lambda self: None)
    found.now, found.BEGIN = 0.0, 0.0
    return found


def ask(shoppers: Any, user: Any, seconds: float) -> None:
    """One request, answered after so long; then the user waits for the next one."""
    sent, shoppers.now = shoppers.now, shoppers.now + seconds
    shoppers.note("GET order", 1000 * seconds, None, sent, user.context())
    shoppers.now += user.wait_time()


def test_requests_that_a_slow_answer_held_up_are_as_late_as_they_are(shoppers: Any) -> None:
    user = shoppers.Customer()
    user.on_start()

    for seconds in (0.1, 2.5, 0.1, 0.1, 0.1, 0.1):
        ask(shoppers, user, seconds)

    assert shoppers.noted["GET order"] == pytest.approx([0.1, 2.5, 1.6, 0.7, 0.1, 0.1])
    assert shoppers.now == pytest.approx(6 * PACE), "so many were sent as were due"


def test_what_was_due_before_the_warm_up_ended_is_not_counted(shoppers: Any) -> None:
    shoppers.BEGIN = 1.0
    user = shoppers.Customer()
    user.on_start()

    for seconds in (3.0, 0.1):
        ask(shoppers, user, seconds)

    assert shoppers.noted["GET order"] == pytest.approx([2.1])


def test_users_who_start_at_once_are_not_due_at_once(shoppers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shoppers, "RATE", 4.0)
    users = [shoppers.Customer() for _ in range(4)]
    for user in users:
        user.on_start()

    assert [user.context()["due"] for user in users] == [0.0, 0.25, 0.5, 0.75]


async def test_a_locust_that_ends_at_once_is_told_of_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "LOCUST", Path(sys.executable))
    place: Any = SimpleNamespace(
        stack=SimpleNamespace(data=SimpleNamespace(path=tmp_path)),
        platform=SimpleNamespace(
            issuer=SimpleNamespace(token=lambda tenant, customer: "token"),
            gateway_url="http://nowhere",
            children={GATEWAY: [SimpleNamespace(pid=1)]},
        ),
        extra={},
    )

    async with asyncio.timeout(60):
        with pytest.raises(NotProven, match="locust ended with code 2"):
            await load._driven(place, Plan(rate=10, seconds=300, seed=1))
