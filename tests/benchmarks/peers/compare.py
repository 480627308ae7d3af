"""Runs Pavane and its peers in turn on one embedded stack each, with the same orders, and says how many sagas a second.

    .venv/bin/python -m tests.benchmarks.peers.compare [--orders 2000] [--pavane-orders 20000]

Makes a virtual environment for each peer (in `.bench/`), from its lock. Every order is verified: confirmed, captured
once, booked, dispatched; stock adds up. A peer's clock runs from the start of its workers' work (they are up and idle,
or, for DBOS, at its first placed order) to the end of its last saga, looked for four times a second.
"""

import argparse
import ast
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.processes import Child
from infra.stack import Stack
from pavane.bench import machine
from pavane.bench.drain import drain
from pavane.bench.ground import ground
from pavane.bench.workload import GOODS, PLENTY, PRICE_MINOR, Workload

HERE = Path(__file__).parent
PARTITIONS = 4
SERVICES = ("orders", "inventory", "billing", "shipping")
DBOS_WORKERS = 2
READY_SECONDS = 8.0
LONGEST_SECONDS = 400.0
DATABASES = ("peer", "peer_world", "peer_system")


async def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--orders", type=int, default=2_000)
    words.add_argument("--pavane-orders", type=int, default=20_000)
    words.add_argument("--folder", type=Path, default=Path(".bench/peers"))
    chosen = words.parse_args()
    say(machine.sentence(machine.facts()))
    found = {
        "FastStream, inbox and outbox": await peer(chosen.folder, "faststream", chosen.orders),
        "DBOS workflows": await peer(chosen.folder, "dbos", chosen.orders),
        "Pavane": await pavane(chosen.folder, chosen.pavane_orders),
    }
    for name, rate in found.items():
        say(f"  {name:<30} {rate:>8,.1f} sagas a second   {found['Pavane'] / rate:6.1f} to 1")


async def pavane(folder: Path, orders: int) -> float:
    async with ground(folder / "pavane") as (place, usage):
        return (await drain(place, usage, Workload("peers", orders))).sagas_per_second


async def peer(folder: Path, name: str, orders: int) -> float:
    """Sagas a second of one peer. Raises `AssertionError` when an order is not right."""
    python = environment(folder, name)
    shutil.rmtree(folder / name, ignore_errors=True)
    workload = Workload("peers", orders)
    requests = [_json(request) for request in workload.requests()]
    async with Stack(folder / name, databases=DATABASES) as stack:
        given = {
            **{key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")},
            "PEER_DATABASE": stack.addresses.postgres["peer"],
            "PEER_WORLD": stack.addresses.postgres["peer_world"],
            "PEER_SYSTEM": stack.addresses.postgres["peer_system"],
            "PEER_KAFKA": stack.addresses.kafka_bootstrap,
        }
        make_tables(given, workload)
        begin = faststream if name == "faststream" else dbos
        children, begun = await begin(python, given, stack.addresses.kafka_bootstrap, requests, folder / name)
        try:
            ended = await until_done(given, children, orders)
        finally:
            for child in children:
                child.kill()
        verify(given, orders)
    return orders / (ended - begun)


async def faststream(
    python: Path, given: Mapping[str, str], kafka: str, requests: Sequence[bytes], folder: Path
) -> tuple[list[Child], float]:
    client = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    names = [NewTopic(f"peer.{name}", PARTITIONS, 1) for name in ("requests", *SERVICES)]
    for made in client.create_topics(names).values():
        made.result(30)
    children = [start(python, ["faststream_peer.py", name], given, folder) for name in SERVICES]
    await asyncio.sleep(READY_SECONDS)
    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "partitioner": "murmur2_random", "log_level": 0})
    for request in requests:
        producer.produce("peer.requests", request, json.loads(request)["order_id"])
        producer.poll(0)
    producer.flush()
    return children, time.time()


async def dbos(
    python: Path, given: Mapping[str, str], kafka: str, requests: Sequence[bytes], folder: Path
) -> tuple[list[Child], float]:
    for word, text in (("migrate", b""), ("enqueue", b"\n".join(requests))):
        words = [str(python), str(HERE / "dbos_peer.py"), word]
        await asyncio.to_thread(subprocess.run, words, input=text, env=dict(given), check=True)
    workers = [
        start(python, ["dbos_peer.py", "work"], {**given, "PEER_WORKER": str(number)}, folder)
        for number in range(DBOS_WORKERS)
    ]
    while not one(given["PEER_DATABASE"], "SELECT count(*) FROM orders"):
        assert all(worker.poll() is None for worker in workers), workers[0].log_tail()
        await asyncio.sleep(0.05)
    return workers, time.time()


async def until_done(given: Mapping[str, str], children: Sequence[Child], orders: int) -> float:
    deadline = time.monotonic() + LONGEST_SECONDS
    statement = "SELECT count(*) FROM reservations WHERE status = 'DISPATCHED'"
    while (done := one(given["PEER_DATABASE"], statement)) < orders:
        assert all(child.poll() is None for child in children), [child.log_tail() for child in children]
        assert time.monotonic() < deadline, f"only {done} of {orders} sagas after {LONGEST_SECONDS:.0f} seconds"
        await asyncio.sleep(0.25)
    return time.time()


def verify(given: Mapping[str, str], orders: int) -> None:
    """Every order confirmed, captured, booked and dispatched, asked of the world once; no piece lost or sold twice."""
    database, world = given["PEER_DATABASE"], given["PEER_WORLD"]
    for table, status in (("orders", "CONFIRMED"), ("invoices", "CAPTURED"), ("shipments", "BOOKED")):
        assert one(database, f"SELECT count(*) FROM {table} WHERE status = '{status}'") == orders, table
    assert one(world, "SELECT count(*) FROM effects") == 3 * orders
    pieces = "SELECT sum((line ->> 'quantity')::bigint)::bigint FROM reservations, jsonb_array_elements(lines) AS line"
    assert one(database, "SELECT sum(dispatched)::bigint FROM stock") == one(database, pieces)
    assert one(database, f"SELECT count(*) FROM stock WHERE reserved <> 0 OR on_hand + dispatched <> {PLENTY}") == 0


def make_tables(given: Mapping[str, str], workload: Workload) -> None:
    tables = (HERE / "common.py").read_text()
    with psycopg.connect(given["PEER_DATABASE"], autocommit=True) as connection:
        connection.execute(_constant(tables, "TABLES"))
        connection.execute(
            "INSERT INTO prices SELECT 'sku-' || n, %s FROM generate_series(0, %s) n", (PRICE_MINOR, GOODS - 1)
        )
        connection.execute(
            "INSERT INTO stock SELECT 'sku-' || n, %s, 0, 0 FROM generate_series(0, %s) n", (PLENTY, GOODS - 1)
        )
        connection.execute("ANALYZE")
    with psycopg.connect(given["PEER_WORLD"], autocommit=True) as connection:
        connection.execute(_constant(tables, "WORLD_TABLES"))


def environment(folder: Path, name: str) -> Path:
    """The Python of the peer's own environment."""
    venv = folder.absolute() / f"venv-{name}"
    python = venv / "bin" / "python"
    if not python.exists():
        say(f"Installing {name}")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        words = ["-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(HERE / f"{name}.lock")]
        subprocess.run([str(python), *words], check=True)
    return python


def start(python: Path, words: Sequence[str], given: Mapping[str, str], folder: Path) -> Child:
    name = "-".join(words).replace(".py", "") + given.get("PEER_WORKER", "")
    return Child(name, [str(python), str(HERE / words[0]), *words[1:]], given, folder / f"{name}.log", cwd=HERE)


def one(url: str, statement: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        [(value,)] = connection.execute(statement.encode()).fetchall()
        return int(value or 0)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _json(request: object) -> bytes:
    return msgspec.json.encode({"fact": type(request).__name__, **msgspec.to_builtins(request)})


def _constant(source: str, name: str) -> bytes:
    """A text of `common.py`, which cannot be imported here: it is for the peers' own processes."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            return str(ast.literal_eval(node.value)).encode()
    raise KeyError(name)


if __name__ == "__main__":
    asyncio.run(main())
