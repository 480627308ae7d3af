"""A producer that is not ours, and that is careless or worse: whatever bytes, keys, partitions and codecs it likes."""

import asyncio
import json
import struct
from typing import Any, NamedTuple
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from api.events import Address, CancelOrder, OrderLine, PlaceOrder
from infra.addresses import Addresses
from streams.kit.codec import Codec
from streams.kit.events import Request
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry
from streams.kit.shop import CUSTOMER
from streams.kit.writers import HEAD

TOPIC = "orders.requests"
SECONDS = 20.0
ANY_PARTITION = -1
#: More than the broker takes, so that it is the broker who refuses.
MOST_MESSAGE_BYTES = 50_000_000
EMPTY_TEXT = b"\0"
NAME, NOT_UTF8 = b"xy-header-xy", b"\xff\xfe-header-\xff\xfe"

ADDRESS = Address(recipient="Ada Lovelace", street="1 A", postal_code="1", city="Berlin", country="DE")


def asked_for(tenant: str, **given: Any) -> PlaceOrder:
    """A good order, but for what is given."""
    fields: dict[str, Any] = {
        "tenant": tenant,
        "order_id": str(uuid4()),
        "customer": CUSTOMER,
        "lines": (OrderLine(sku="lamp", quantity=1),),
        "currency": "EUR",
        "payment_method": "card-ok",
        "ship_to": ADDRESS,
    }
    return PlaceOrder(**{**fields, **given})


class Letter(NamedTuple):
    """Why a record was put aside, as its dead letter tells. `origin`: topic/partition/offset of the record."""

    origin: str
    reason: str
    message: str


class NotTaken(Exception):
    """The log did not take the record. `code` is a `KafkaError`'s."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(str(error))
        self.code = error.code()


class Stranger:
    """Writes to `orders.requests`, and reads what becomes of it."""

    def __init__(self, addresses: Addresses) -> None:
        self._bootstrap = addresses.kafka_bootstrap
        self._registry_url = addresses.registry_url
        self._language = Language.load()
        self._codec = Codec(self._language, ConfluentRegistry(addresses.registry_url))
        self._producers: dict[str, Producer] = {}

    async def learn(self) -> None:
        """Learn to say what the contract allows: `encode` needs it."""
        await self._codec.prepare(TOPIC, [PlaceOrder, CancelOrder])

    def encode(self, request: Request) -> bytes:
        return self._codec.encode(request)

    def encode_newer(self, request: Request) -> bytes:
        """The request in a version of its contract that nobody here has seen: registered, and with a field more."""
        schema = dict(self._language.latest(TOPIC, type(request).__name__).raw)
        schema["fields"] = [*schema["fields"], {"name": f"later_{uuid4().hex}", "type": "string", "default": ""}]
        client = SchemaRegistryClient({"url": self._registry_url})
        schema_id = client.register_schema(f"of-a-stranger-{uuid4()}", Schema(json.dumps(schema), "AVRO"))
        return HEAD.pack(0, schema_id) + self.encode(request)[HEAD.size :] + EMPTY_TEXT

    async def send(
        self, key: bytes | None, value: bytes, partition: int = ANY_PARTITION, compression: str = "none"
    ) -> str:
        """Append one record; where it stands now, as topic/partition/offset. Raises `NotTaken`."""
        [place] = await self.send_batch([(key, value)], partition, compression)
        return place

    async def send_batch(
        self, records: list[tuple[bytes | None, bytes]], partition: int = ANY_PARTITION, compression: str = "none"
    ) -> list[str]:
        """Append records at once, in one batch a partition."""
        return await asyncio.to_thread(self._send, records, partition, compression)

    def _send(self, records: list[tuple[bytes | None, bytes]], partition: int, compression: str) -> list[str]:
        producer = self._producers.setdefault(compression, self._producer(compression))
        places: list[str] = []
        failures: list[KafkaError] = []

        def note(error: KafkaError | None, record: Any) -> None:
            if error is not None:
                failures.append(error)
            else:
                places.append(f"{record.topic()}/{record.partition()}/{record.offset()}")

        for key, value in records:
            producer.produce(TOPIC, key=key, value=value, partition=partition, on_delivery=note)
        assert producer.flush(SECONDS) == 0, "the log does not answer"
        if failures:
            raise NotTaken(failures[0])
        return places

    def _producer(self, compression: str) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "log_level": 0,
                "partitioner": "murmur2_random",
                "compression.type": compression,
                "message.max.bytes": MOST_MESSAGE_BYTES,
                "linger.ms": 20,
            }
        )

    async def send_unreadable(self, key: bytes, partition: int) -> str:
        """Append a record that has a header name which is not UTF-8. No client writes one: its bytes are made."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        await producer.start()
        try:
            batch = producer.create_batch()
            batch.append(timestamp=1, key=key, value=b"v", headers=[(NAME.decode(), b"x")])
            batch.close()
            spoil(batch)
            taken = await (await producer.send_batch(batch, TOPIC, partition=partition))
        finally:
            await producer.stop()
        return f"{TOPIC}/{partition}/{taken.offset}"

    async def letters(self, topic: str = "orders.dead-letters") -> dict[str, Letter]:
        """All dead letters that are there now, by origin."""
        return await asyncio.to_thread(self._letters, topic)

    def _letters(self, topic: str) -> dict[str, Letter]:
        settings = {
            "bootstrap.servers": self._bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "log_level": 0,
        }
        consumer = Consumer(settings)
        try:
            partitions = consumer.list_topics(topic, SECONDS).topics[topic].partitions
            ends = [consumer.get_watermark_offsets(TopicPartition(topic, each), SECONDS)[1] for each in partitions]
            consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
            found = consumer.consume(sum(ends), SECONDS) if any(ends) else []
        finally:
            consumer.close()
        letters = [Letter(*(_header(record, name) for name in ("origin", "reason", "message"))) for record in found]
        return {letter.origin: letter for letter in letters}


def spoil(batch: Any) -> None:
    """Write bytes that are not UTF-8 over the header names of a closed batch, and the checksum that they make."""
    data = bytearray(batch._build())
    assert data.count(NAME) > 0
    data = data.replace(NAME, NOT_UTF8)
    data[17:21] = struct.pack(">I", calc_crc32c(bytes(data[21:])))
    batch._buffer = data


def _header(record: Any, name: str) -> str:
    found = dict(record.headers() or ()).get(f"dead_letter_{name}", b"")
    return bytes(found or b"").decode()
