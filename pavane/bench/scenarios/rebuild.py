"""How fast `pavane rebuild` makes a service's tables again from a log of very many orders, whose databases are lost.

The log is written as the services would have said it (`pavane.bench.history`). Each service is then rebuilt by the
command itself and changed over; what is timed is the folding, as the command does, and CPU is that of the same time.
"""

import asyncio
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg

from infra.stack import Stack
from pavane import prepare
from pavane.bench import history
from pavane.bench.ground import leave_empty
from pavane.bench.proof import NotProven
from pavane.bench.report import Result, Row, Step
from pavane.bench.scenario import Given, rate
from pavane.bench.usage import Usage
from streams.kit.run import services

TITLE = "Rebuild: a lost database made again from the log"
ORDERS, QUICK_ORDERS = 200_000, 10_000
MEGABYTE = 1 << 20
#: The rows that tell how an order ended, and what they are to say of the confirmed and of the others.
ENDS = {
    "billing": ("invoices", "captured", "cancelled"),
    "inventory": ("reservations", "dispatched", "released"),
    "orders": ("orders", "confirmed", "cancelled"),
    "shipping": ("shipments", "booked", "cancelled"),
    "timeline": ("stories", "confirmed", "cancelled"),
}
_FOLDED = re.compile(r"([\d,]+) records? folded in ([\d.]+) s")
_STOOD_STILL = re.compile(r"stood still for ([\d.]+) s")


class Rebuilt(NamedTuple):
    """One service's rebuild. `cpu_seconds`: by who used them, while the facts were folded."""

    records: int
    seconds: float
    stood_still_seconds: float
    cpu_seconds: Mapping[str, float]
    peak_bytes: int

    @property
    def per_second(self) -> float:
        return self.records / self.seconds

    @property
    def cpu_of_100_000(self) -> float:
        return sum(self.cpu_seconds.values()) * 100_000 / self.records

    def document(self) -> Mapping[str, Any]:
        return {
            **self._asdict(),
            "records_a_second": round(self.per_second),
            "cpu_seconds_of_100_000": round(self.cpu_of_100_000, 2),
        }


async def run(given: Given) -> Result:
    orders = given.options.size(ORDERS, QUICK_ORDERS)
    folder = given.folder("rebuild")
    found = {}
    async with Stack(folder, afresh=True) as stack:
        addresses = stack.addresses
        prepare.apply_topics(addresses.kafka_bootstrap)
        prepare.push_schemas(addresses.registry_url)
        prepare.migrate_databases(addresses.postgres)
        with given.progress.doing(f"{orders:,} orders are written into the log") as step:
            writing = history.Writing(addresses)
            await writing.write(orders, given.options.seed, step.facts)
        for name in services():
            with given.progress.doing(f"{name} is rebuilt") as step:
                found[name] = await _rebuilt(stack, name, step)
            _prove(addresses.postgres[name], name, orders)
    leave_empty(folder)
    rows = [
        Row("records folded", [f"{each.records:,}" for each in found.values()]),
        Row("records a second", [rate(each.per_second) for each in found.values()]),
        Row("CPU seconds of 100,000, all processes", [f"{each.cpu_of_100_000:.2f}" for each in found.values()]),
        *(
            Row(f"  {who}", [f"{each.cpu_seconds[who] * 100_000 / each.records:.2f}" for each in found.values()])
            for who in ("rebuild", "postgres", "kafka-1")
        ),
        Row("memory of the rebuild, at most", [f"{each.peak_bytes / MEGABYTE:,.0f} MB" for each in found.values()]),
        Row("lanes stood still", [f"{each.stood_still_seconds:.2f} s" for each in found.values()]),
    ]
    document = {"orders": orders, **{name: each.document() for name, each in found.items()}}
    notes = ["Every row of every order was counted afterwards, by how its order ended."]
    return Result(TITLE, list(found), rows, document, notes)


async def _rebuilt(stack: Stack, name: str, step: Step) -> Rebuilt:
    """Rebuild it by the command, change over, and read what it says. Raises `NotProven`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane", "rebuild", name, "--swap", "--yes", "--reason", "measured"),
        env={**os.environ, **stack.addresses.environment()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    servers = {server.folder.name: server.pid for server in stack.servers if server.is_running}
    said, records, folding = "", 0, (0.0, 0.0)
    with Usage(lambda: {**servers, "rebuild": process.pid}) as usage:
        assert process.stdout is not None
        async for line in process.stdout:
            said += line.decode()
            step.update(line.decode().strip())
            if match := _FOLDED.search(line.decode()):
                records, seconds = int(match[1].replace(",", "")), float(match[2])
                folding = time.time() - seconds, time.time()
        code = await process.wait()
    stood_still = _STOOD_STILL.search(said)
    if code != 0 or not records or stood_still is None:
        raise NotProven(f"the rebuild of {name} ended with {code}: {said}")
    cpu = {who: seconds for who, seconds in usage.cpu_seconds(*folding).items() if who in (*servers, "rebuild")}
    peak = usage.peak_memory()["rebuild"]
    return Rebuilt(records, folding[1] - folding[0], float(stood_still[1]), cpu, peak)


def _prove(url: str, name: str, orders: int) -> None:
    """Every order has its row, and it says how the order ended. Raises `NotProven`."""
    table, well, badly = ENDS[name]
    confirmed = sum(number % 10 < history.CONFIRMED_OF_TEN for number in range(orders))
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"SELECT status, count(*) FROM {table} GROUP BY 1").fetchall()
    if dict(rows) != {well: confirmed, badly: orders - confirmed}:
        raise NotProven(f"of {orders:,} orders {name} knows {dict(rows)} after its rebuild")
