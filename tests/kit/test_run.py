"""One service as a process: it says in one line why it does not start, serves its port, and ends when asked to."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.stack import Stack
from pavane.http import Connection
from pavane.instance import Instance
from streams.kit.run import find, services
from tests.waiting import eventually


def started(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The process, once it has ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAVANE_")}
    command = [sys.executable, "-m", "streams.kit.run", *words]
    return subprocess.run(command, env={**environment, **settings}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "settings", "told"),
    [
        ((), {}, "usage: python -m streams.kit.run SERVICE"),
        (("nobody",), {}, "nobody: there is no service 'nobody'; there are billing, inventory, orders, shipping"),
        (("billing",), {}, "billing: PAVANE_DATABASE_BILLING (PostgreSQL URL of the service billing): is not set"),
        (
            ("billing",),
            {"PAVANE_DATABASE_BILLING": "postgresql://x"},
            "billing: PAVANE_KAFKA (Kafka bootstrap servers, host:port,host:port): is not set",
        ),
    ],
)
def test_a_process_that_cannot_start_says_why_in_one_line(
    words: tuple[str, ...], settings: dict[str, str], told: str
) -> None:
    ended = started(*words, **settings)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith(told)


def test_every_service_is_found_by_its_name() -> None:
    assert [find(name).name for name in services()] == services()


async def test_a_process_whose_database_is_away_at_its_start_is_not_ready_and_ends_when_it_is_asked_to(
    stack: Stack, tmp_path: Path
) -> None:
    nowhere = {"PAVANE_DATABASE_BILLING": "postgresql://billing:x@127.0.0.1:9/billing"}
    environment = {**os.environ, **stack.addresses.environment(), **nowhere, "PAVANE_MANAGEMENT_PORT": "0"}
    instance = Instance("billing", 1, environment, tmp_path / "billing.log")
    try:

        async def is_away() -> bool:
            health = await instance.health()
            return health is not None and not health["ready"] and "database" in str(health["away"])

        await eventually(is_away, within_seconds=30)
        assert await asyncio.wait_for(instance.stop(), 20) == 0
        assert '"event": "stopped"' in instance.log_file.read_text()
    finally:
        instance.child.kill()


async def test_a_process_serves_its_port_and_lets_go_when_it_is_asked_to_end(stack: Stack, tmp_path: Path) -> None:
    environment = {**os.environ, **stack.addresses.environment(), "PAVANE_MANAGEMENT_PORT": "0"}
    instance = Instance("orders", 1, environment, tmp_path / "orders.log")
    try:

        async def is_ready() -> bool:
            health = await instance.health()
            return health is not None and (health["service"], health["ready"], health["halted"]) == ("orders", True, {})

        await eventually(is_ready, within_seconds=30)
        connection = Connection(instance.url, 5.0)
        metrics = (await connection.ask("GET", "/metrics")).body
        assert b'pavane_lanes_held{service="orders"}' in metrics
        assert (await connection.ask("GET", "/health/live")).status == 200
        connection.close()
        assert await asyncio.wait_for(instance.stop(), 20) == 0
        assert '"event": "stopped"' in instance.log_file.read_text()
    finally:
        instance.child.kill()
