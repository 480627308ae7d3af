"""A producer that is not ours: Confluent's own client and serializer, no headers, a contract read from a file."""

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from infra.addresses import Addresses
from streams.kit.shop import CUSTOMER, Order, order_body

TOPIC = "orders.requests"
CONTRACT = Path(__file__).parents[2] / "schemas" / TOPIC / "PlaceOrder.v1.avsc"
SECONDS = 10.0
#: librdkafka's names: what Java does, and what librdkafka itself does when nobody says anything (CRC32).
AS_JAVA_DOES, OF_ITS_OWN = "murmur2_random", "consistent_random"
WHY = ("dead_letter_reason", "dead_letter_message")


class DeadLetter(NamedTuple):
    """A record that a service put aside."""

    key: str
    reason: str
    message: str


class ForeignProducer:
    """Places orders over the log. `extra_line_field`: a field of its own, which its contract has besides."""

    def __init__(self, addresses: Addresses, partitioner: str = AS_JAVA_DOES, extra_line_field: str = "") -> None:
        self._producer = Producer({"bootstrap.servers": addresses.kafka_bootstrap, "partitioner": partitioner})
        self._extra = extra_line_field
        contract = json.loads(CONTRACT.read_text())
        config: dict[str, Any] = {"auto.register.schemas": False}
        strategy: Any = topic_record_subject_name_strategy
        if extra_line_field:
            _lines_of(contract).append({"name": extra_line_field, "type": "long", "default": 0})
            config, strategy = {}, lambda context, name: f"{extra_line_field}-{name}"
        registry = SchemaRegistryClient({"url": addresses.registry_url})
        self._serialize = AvroSerializer(
            registry, json.dumps(contract), conf={**config, "subject.name.strategy": strategy}
        )

    async def place(self, tenant: str, sku: str, order_id: str = "", **extra: int) -> Order:
        """Order one piece; the log has acknowledged it when this returns."""
        order = Order(order_id or str(uuid4()), CUSTOMER)
        request = order_body([(sku, 1)], "card-ok", "DE", "EUR")
        request["lines"][0].update(extra)
        request |= {"tenant": tenant, "order_id": order.id, "customer": order.customer}
        await asyncio.to_thread(self._send, order.id, request)
        return order

    def _send(self, key: str, request: dict[str, Any]) -> None:
        failures: list[Any] = []
        value = self._serialize(request, SerializationContext(TOPIC, MessageField.VALUE))
        self._producer.produce(
            TOPIC, key=key, value=value, on_delivery=lambda error, _: failures.append(error) if error else None
        )
        assert self._producer.flush(SECONDS) == 0 and not failures, f"the log did not take it: {failures}"


def dead_letters(bootstrap: str, topic: str) -> list[DeadLetter]:
    """All that is in a topic of dead letters now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, SECONDS).topics[topic].partitions
        ends = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), SECONDS)[1] for number in partitions
        }
        consumer.assign([TopicPartition(topic, number, 0) for number in ends])
        letters: list[DeadLetter] = []
        for record in consumer.consume(sum(ends.values()), SECONDS) if any(ends.values()) else ():
            headers = dict(record.headers() or ())
            letters.append(DeadLetter(*(_text(each) for each in (record.key(), *map(headers.get, WHY)))))
        return letters
    finally:
        consumer.close()


def _lines_of(contract: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of an order's line in the schema of the whole order."""
    lines = next(field for field in contract["fields"] if field["name"] == "lines")
    fields: list[dict[str, Any]] = lines["type"]["items"]["fields"]
    return fields


def _text(found: str | bytes | None) -> str:
    return found.decode(errors="replace") if isinstance(found, bytes) else found or ""
