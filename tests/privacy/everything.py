"""All bytes that a platform keeps: the records of every topic, the rows of every table, the keys of Redis, all files.

Files alone would not do: segments, rows and snapshots may be compressed. Records, rows and keys alone would not do
either: a server's own log and what is deleted from a table lie in files.
"""

import asyncio
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from psycopg import sql
from redis.asyncio import Redis

from infra.addresses import Addresses

SECONDS = 20.0
_TOKEN = re.compile(rb"pv1\.([A-Za-z0-9_-]{8})\.[A-Za-z0-9_-]{22,}")


class Everything:
    """What was found at one moment, by where it was found."""

    def __init__(self, found: Mapping[str, bytes]) -> None:
        self._found = found

    def holding(self, word: str) -> set[str]:
        """The places that hold the word, written as text, or in hexadecimal as PostgreSQL shows bytes."""
        plain = word.encode()
        forms = (plain, plain.hex().encode())
        return {where for where, held in self._found.items() if any(form in held for form in forms)}

    def holding_any(self, words: Collection[str]) -> dict[str, set[str]]:
        """The places of each word that is anywhere."""
        places = {word: self.holding(word) for word in words}
        return {word: where for word, where in places.items() if where}

    def key_ids(self) -> set[str]:
        """Under which keys the tokens in the log's records are protected."""
        records = (held for where, held in self._found.items() if where.startswith("log "))
        return {key.decode() for held in records for key in _TOKEN.findall(held)}


async def everything(addresses: Addresses, folder: Path) -> Everything:
    """Look everywhere."""
    found = dict(await asyncio.to_thread(lambda: [*_records(addresses.kafka_bootstrap), *_files(folder)]))
    for name, url in addresses.postgres.items():
        found |= await _rows(name, url)
    return Everything(found | await _redis(addresses.redis_url))


def _records(bootstrap: str) -> Iterator[tuple[str, bytes]]:
    settings = {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False}
    consumer = Consumer({**settings, "enable.partition.eof": True})
    try:
        topics = consumer.list_topics(timeout=SECONDS).topics
        unread = {(topic, number) for topic, known in topics.items() for number in known.partitions}
        held: dict[str, list[bytes]] = {topic: [] for topic in topics}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in unread])
        while unread and (record := consumer.poll(SECONDS)) is not None:
            topic = str(record.topic())
            if (error := record.error()) is None:
                headers = [value for _, value in record.headers() or () if isinstance(value, bytes)]
                held[topic] += [bytes(record.key() or b""), bytes(record.value() or b""), *headers]
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                unread.discard((topic, record.partition()))
        assert not unread, f"not read to their ends: {unread}"
        yield from ((f"log {topic}", b"\n".join(values)) for topic, values in held.items())
    finally:
        consumer.close()


async def _rows(name: str, url: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in await cursor.fetchall():
            query = sql.SQL("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {} t").format(sql.Identifier(table))
            [(rows,)] = await (await connection.execute(query)).fetchall()
            found[f"table {name}.{table}"] = str(rows).encode()
    return found


async def _redis(url: str) -> dict[str, bytes]:
    held: list[bytes] = []
    async with Redis.from_url(url) as redis:
        async for key in redis.scan_iter():
            held += [key, await redis.dump(key) or b""]
            kind = await redis.type(key)
            if kind == b"string":
                held.append(await redis.get(key))
            elif kind == b"zset":
                held += await redis.zrange(key, 0, -1)
            else:
                held += (await redis.hgetall(key)).values()
    return {"redis": b"\n".join(held)}


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in folder.rglob("*"):
        if file.is_file():
            yield f"file {file.relative_to(folder)}", file.read_bytes()
