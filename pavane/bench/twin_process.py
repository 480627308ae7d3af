"""One process of the raw twin: it stands for one service, and moves what that service moved. See `twin`.

    python -m pavane.bench.twin_process < plan.json

Says `ready` when everything is prepared, waits for a line, works, and says when it ended (seconds since 1970).
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
import uvloop

from pavane.bench import log
from pavane.bench.twin_clients import CLIENTS, Client, Sent
from streams.kit.columns import array_of

SCHEMA = "twin"


class Table(msgspec.Struct, frozen=True):
    """Rows to write to one table in all, and what of a row is its key (nothing: rows are only added)."""

    name: str
    rows: int
    key: str


class Writing(msgspec.Struct, frozen=True):
    """What is written to one database: in so many transactions, with so many outbox rows between them."""

    url: str
    commits: int
    outbox_rows: int
    tables: list[Table]


class Plan(msgspec.Struct, frozen=True):
    """What one process does. Ranges are [topic, partition, begin, end]."""

    client: str
    kafka: str
    says_to: str
    said: list[tuple[str, int, int, int]]
    hears: list[tuple[str, int, int, int]]
    writing: list[Writing]


class Writer:
    """Writes prepared arrays, a share of all of them in each transaction, as one pipeline."""

    def __init__(self, writing: Writing, said: Sequence[Sent]) -> None:
        self._connection = psycopg.connect(writing.url, autocommit=True)
        self._commits = max(1, writing.commits)
        self._statements: list[tuple[bytes, list[list[str]]]] = []
        for table in writing.tables:
            self._prepare(table)
        self._outbox = self._outbox_rows(writing.outbox_rows, said)
        self._numbers = iter(range(10**9))

    @property
    def commits(self) -> int:
        return self._commits

    def write(self, number: int) -> None:
        """The transaction of that number."""
        connection = self._connection
        with connection.pipeline():
            connection.execute("BEGIN")
            for statement, arrays in self._statements:
                if arrays[number]:
                    connection.execute(statement, arrays[number])
            for facts in self._outbox[number]:
                connection.execute("INSERT INTO twin.outbox VALUES (0, %s, now(), %s)", (next(self._numbers), facts))
            connection.execute("COMMIT")

    def _prepare(self, table: Table) -> None:
        columns = self._connection.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' "
            "AND table_name = %s AND is_identity = 'NO' ORDER BY ordinal_position",
            (table.name,),
        ).fetchall()
        names = ", ".join(f'"{name}"' for name, _ in columns)
        texts = ", ".join(f'"{name}"::text' for name, _ in columns)
        rows = self._connection.execute(f"SELECT {texts} FROM public.{table.name}".encode()).fetchall()
        shares: list[list[list[str | None]]] = []
        for number in range(self._commits):
            begin, end = (table.rows * each // self._commits for each in (number, number + 1))
            # More writes than rows: a row is written again, in another transaction where there are enough rows.
            places = {place % len(rows) for place in range(begin, end)}
            shares.append([list(column) for column in zip(*(rows[place] for place in places), strict=True)])
        arrays = ", ".join(f"%s::{kind}[]" for _, kind in columns)
        insert = f"INSERT INTO twin.{table.name} ({names}) SELECT * FROM unnest({arrays})"
        if table.key:
            sets = ", ".join(f'"{name}" = excluded."{name}"' for name, _ in columns if name != table.key)
            insert += f' ON CONFLICT ("{table.key}") DO UPDATE SET {sets}'
        self._statements.append((insert.encode(), [list(map(array_of, share)) for share in shares]))

    def _outbox_rows(self, count: int, said: Sequence[Sent]) -> list[list[bytes]]:
        rows = [
            msgspec.msgpack.encode(said[len(said) * number // count : len(said) * (number + 1) // count])
            for number in range(count)
        ]
        share = self._commits
        return [rows[count * number // share : count * (number + 1) // share] for number in range(share)]


async def run(plan: Plan) -> None:
    begin = {(topic, partition): first for topic, partition, first, _ in plan.said}
    end = {(topic, partition): last for topic, partition, _, last in plan.said}
    said = [_sent(message) for message in log.read(plan.kafka, begin, end)]
    writers = [Writer(writing, said) for writing in plan.writing]
    client: Client = CLIENTS[plan.client](plan.kafka)
    await client.start({(topic, partition): first for topic, partition, first, _ in plan.hears})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    await _work(plan, client, said, writers)
    await client.stop()


async def _work(plan: Plan, client: Client, said: Sequence[Sent], writers: Sequence[Writer]) -> None:
    to_hear = sum(last - first for *_, first, last in plan.hears)
    steps = max(writer.commits for writer in writers)
    heard = 0
    for step in range(steps):
        heard += await client.read()
        begin, end = (len(said) * each // steps for each in (step, step + 1))
        if begin < end:
            await client.send(plan.says_to, said[begin:end])
        for writer in writers:
            first, last = (writer.commits * each // steps for each in (step, step + 1))
            for number in range(first, last):
                writer.write(number)
    await client.flush()
    while heard < to_hear:
        count = await client.read()
        heard += count
        if not count:
            await asyncio.sleep(0.001)
    sys.stdout.write("done\n")
    sys.stdout.flush()


def _sent(message: Any) -> Sent:
    return Sent(message.partition(), message.timestamp()[1], message.key(), message.value(), message.headers() or [])


if __name__ == "__main__":
    uvloop.run(run(msgspec.json.decode(sys.stdin.readline(), type=Plan)))
