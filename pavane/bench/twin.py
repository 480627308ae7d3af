"""The raw twin of a drain: the same bytes through the same machine, with nobody thinking about them.

For each process of the platform one process of the twin. It consumes the same number of records from topics with as
many partitions (the requests from their own topic, the facts from `twin.<service>`, which another process of the twin
writes meanwhile), produces the very records that the service said (value, key, headers, timestamp, read back from the
log), and writes to PostgreSQL as many rows, in as many transactions, with as many outbox rows, as the service did:
the rows' last values, an array a column, one statement a table, into tables made alike, and the outbox rows with the
bytes of its facts; billing and shipping also those of provider and carrier, in the other database. Each process reads
what is there, says its next share, commits its next share, and begins again. They give way as the platform's do, and
the time ends, as a drain's does, when the last fact has been said and its rows are committed, however far the view is.

What it does not do: decode, decide, fold, build headers, wait for a cause before an effect (a process never waits for
another but for records to read), load rows before writing them, lock rows or epochs, ask Redis, delete outbox rows.
So it is a bound for any program that stores and says the same, and the ratio is what the kit's promises cost. The
clients are the two that there are for Python; each runs once, and the faster one counts.
"""

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import psycopg
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.processes import give_way
from infra.stack import WORLD_DATABASE
from pavane.bench import database
from pavane.bench.drain import Drained
from pavane.bench.ground import Ground
from pavane.bench.twin_clients import CLIENTS
from pavane.bench.twin_process import Plan, Table, Writing
from pavane.bench.usage import Usage
from pavane.instance import niceness_of
from streams.kit.lane import REQUESTS
from streams.kit.run import find, services

ASK_SECONDS = 30.0
PREPARED_SECONDS = 120.0
WORKED_SECONDS = 300.0
KITS_OWN = ("lanes", "outbox", "parked", "operations", "alembic_version")
#: What provider and carrier keep, by the service that asks them.
WORLD = {"billing": ("payments", "payment_calls"), "shipping": ("bookings", "booking_calls")}
NEVER_TWICE = ("payment_calls", "booking_calls")


class Twin(NamedTuple):
    """One run of the twin."""

    client: str
    orders: int
    seconds: float
    cpu_seconds: Mapping[str, float]

    @property
    def sagas_per_second(self) -> float:
        return self.orders / self.seconds

    def document(self) -> dict[str, Any]:
        return {
            "client": self.client,
            "seconds": round(self.seconds, 3),
            "sagas_per_second": round(self.sagas_per_second, 1),
            "cpu_seconds": {name: round(used, 2) for name, used in self.cpu_seconds.items()},
        }


class Moved(NamedTuple):
    """What a drain moved: and the rows that it wrote, by database and table."""

    drained: Drained
    rows: database.Rows


async def twins(ground: Ground, usage: Usage, drained: Drained) -> list[Twin]:
    """The twin of `drained`, once a client, the fastest first; the platform idles meanwhile."""
    # Only then has every idle connection told what it wrote.
    await asyncio.sleep(max(0.0, drained.begun + drained.caught_up_seconds + database.LATEST_SECONDS - time.time()))
    rows = await asyncio.to_thread(database.rows_written, ground.databases)
    written = {at: count - drained.rows_before.get(at, 0) for at, count in rows.items()}
    moved = Moved(drained, {at: count for at, count in written.items() if count})
    found = [await _run(ground, usage, moved, client) for client in CLIENTS]
    return sorted(found, key=lambda twin: twin.seconds)


async def _run(ground: Ground, usage: Usage, moved: Moved, client: str) -> Twin:
    await asyncio.to_thread(_make_topics, ground)
    await asyncio.to_thread(_make_tables, ground, moved)
    plans = {name: _plan(ground, moved, name, client) for name in services()}
    processes = {name: await _start(plan) for name, plan in plans.items()}
    for name, process in processes.items():
        give_way(process.pid, niceness_of(name))
    ground.extra.update({f"twin-{name}": process.pid for name, process in processes.items()})
    try:
        async with asyncio.timeout(PREPARED_SECONDS):
            await asyncio.gather(*(_line(process, b"ready") for process in processes.values()))
        begun = time.time()
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        async with asyncio.timeout(WORKED_SECONDS):
            done = {name: asyncio.create_task(_line(process, b"done")) for name, process in processes.items()}
            # As in a drain: to the last fact, however far the view is, whose CPU counts all the same.
            await asyncio.gather(*(each for name, each in done.items() if find(name).says))
            ended = time.time()
            await asyncio.gather(*done.values())
            worked = time.time()
        await asyncio.gather(*(process.wait() for process in processes.values()))
    finally:
        for name, process in processes.items():
            ground.extra.pop(f"twin-{name}", None)
            if process.returncode is None:
                process.kill()
                await process.wait()
    cpu = {name: used for name, used in usage.cpu_seconds(begun, worked).items() if used > 0.005}
    return Twin(client, moved.drained.orders, ended - begun, cpu)


def _plan(ground: Ground, moved: Moved, name: str, client: str) -> Plan:
    service, drained, rows = find(name), moved.drained, moved.rows
    ranges = [(topic, lane, drained.begin.get((topic, lane), 0), end) for (topic, lane), end in drained.end.items()]
    own = [each for each in ranges if each[0] == name]
    hears = [
        (topic, lane, begin, end) if topic.endswith(REQUESTS) else (f"twin.{topic}", lane, 0, end - begin)
        for topic, lane, begin, end in ranges
        if topic in service.topics
    ]
    tables = [Table(each.table, rows.get((name, each.table), 0), each.key) for each in service.states]
    writing = [_writing(ground, moved, name, tables)]
    if name in WORLD:
        named = [(table, rows.get((WORLD_DATABASE, table), 0)) for table in WORLD[name]]
        world = [Table(table, count, "" if table in NEVER_TWICE else "key") for table, count in named]
        writing.append(_writing(ground, moved, WORLD_DATABASE, world))
    return Plan(client, ground.addresses.kafka_bootstrap, f"twin.{name}", own, hears, writing)


def _writing(ground: Ground, moved: Moved, where: str, tables: list[Table]) -> Writing:
    use = moved.drained.use
    commits = use.batches(where, [table.name for table in tables])
    outbox = use.batches(where, ["outbox"]) and moved.rows.get((where, "outbox"), 0)
    return Writing(ground.databases[where], commits, outbox, [table for table in tables if table.rows])


async def _start(plan: Plan) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pavane.bench.twin_process"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(plan) + b"\n")
    await process.stdin.drain()
    return process


async def _line(process: asyncio.subprocess.Process, expected: bytes) -> None:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if line.strip() != expected:
        raise RuntimeError(f"a process of the raw twin ended before it was {expected.decode()}")


def _make_topics(ground: Ground) -> None:
    """`twin.<service>` for each that says something, empty, with as many partitions as its own topic."""
    client = AdminClient({"bootstrap.servers": ground.addresses.kafka_bootstrap, "log_level": 0})
    known = client.list_topics(timeout=ASK_SECONDS).topics
    names = [name for name in services() if find(name).says]
    old = [f"twin.{name}" for name in names if f"twin.{name}" in known]
    for deleted in client.delete_topics(old, operation_timeout=ASK_SECONDS).values() if old else ():
        deleted.result(ASK_SECONDS)
    new = [NewTopic(f"twin.{name}", len(known[name].partitions), 1) for name in names]
    for made in client.create_topics(new, operation_timeout=ASK_SECONDS).values():
        made.result(ASK_SECONDS)


def _make_tables(ground: Ground, moved: Moved) -> None:
    """A schema `twin` in each database, with empty tables like the ones that were written to."""
    for name, url in ground.databases.items():
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS twin CASCADE")
            connection.execute("CREATE SCHEMA twin")
            for where, table in moved.rows:
                if where == name and (table == "outbox" or table not in KITS_OWN):
                    connection.execute(f"CREATE TABLE twin.{table} (LIKE public.{table} INCLUDING ALL)".encode())
    database.checkpoint(ground.addresses.postgres_admin)
