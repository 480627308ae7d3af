"""The management port answers from a thread of its own, so a process that hangs can still be asked."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams.kit import management
from streams.kit.management import Management
from streams.kit.telemetry import Telemetry
from tests.waiting import eventually


class Port:
    """A management port and what its process says of itself."""

    def __init__(self) -> None:
        self.readiness: dict[str, Any] = {"ready": True, "lanes": [0, 1]}
        self.management = Management("127.0.0.1", 0, lambda: self.readiness)

    def get(self, path: str) -> tuple[int, str]:
        """Blocks, as nothing of the port may depend on the caller's loop."""
        try:
            with urllib.request.urlopen(f"http://{self.management.address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    port = Port()
    yield port
    port.management.close()


async def test_metrics_are_those_of_the_process_by_service(port: Port) -> None:
    telemetry = Telemetry("measured")
    telemetry.heard.inc(3)
    telemetry.fact_said("Added", 2)
    with telemetry.step("fold"):
        pass
    status, body = port.get("/metrics")
    assert status == 200
    assert 'pavane_records_heard_total{service="measured"} 3.0' in body
    assert 'pavane_facts_said_total{fact="Added",service="measured"} 2.0' in body
    assert 'pavane_step_seconds_count{service="measured",step="fold"} 1.0' in body


async def test_ready_gives_the_processs_own_words(port: Port) -> None:
    assert port.get("/health/ready") == (200, '{"ready":true,"lanes":[0,1]}')
    port.readiness = {"ready": False, "halted": {"1": "a gap"}}
    status, body = port.get("/health/ready")
    assert (status, json.loads(body)) == (503, {"ready": False, "halted": {"1": "a gap"}})


async def test_live_fails_while_the_loop_is_blocked_and_recovers(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management, "LOOP_SECONDS", 1.3)
    await asyncio.sleep(0)
    assert port.get("/health/live")[0] == 200
    # From here on nothing else runs on the loop: this test asks and asks without awaiting.
    deadline = time.monotonic() + 10
    while (answer := port.get("/health/live"))[0] == 200:
        assert time.monotonic() < deadline, "a blocked loop was not seen"
    assert (answer[0], json.loads(answer[1])["live"]) == (503, False)
    assert json.loads(answer[1])["loop_idle_seconds"] >= 1.3
    await eventually(lambda: port.get("/health/live")[0] == 200)


async def test_other_paths_say_what_there_is(port: Port) -> None:
    status, body = port.get("/")
    assert status == 404
    assert "/metrics, /health/live and /health/ready" in body


async def test_a_closed_port_answers_no_more(port: Port) -> None:
    port.management.close()

    def is_closed() -> bool:
        try:
            port.get("/health/live")
        except OSError:
            return True
        return False

    await eventually(is_closed)
