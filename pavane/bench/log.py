"""The log as the benchmark sees it: where topics end, what is in them, how many bytes they are."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # hidden from type checkers

from api.events import CancelOrder, PlaceOrder, ReceiveStock, SetPrice
from infra.addresses import Addresses
from pavane.bench.workload import CURRENCY, PRICE_MINOR, Workload
from streams.kit.codec import Codec
from streams.kit.events import Request
from streams.kit.language import Language
from streams.kit.money import Money
from streams.kit.registry import ConfluentRegistry
from streams.kit.run import find, services

ASK_SECONDS = 30.0
READ_AT_ONCE = 10_000

Ends = Mapping[tuple[str, int], int]


def topics() -> list[str]:
    """Every topic that a saga touches: requests and facts."""
    return sorted({topic for name in services() for topic in find(name).topics})


class Looker:
    """Asks where topics end, cheaply and often."""

    def __init__(self, bootstrap: str, names: Iterable[str] | None = None) -> None:
        self._client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        known = self._client.list_topics(timeout=ASK_SECONDS).topics
        self._partitions = [
            TopicPartition(name, partition)
            for name in (topics() if names is None else names)
            for partition in known[name].partitions
        ]

    def ends(self) -> dict[tuple[str, int], int]:
        """The next offset of every partition."""
        latest = {each: OffsetSpec.latest() for each in self._partitions}  # type: ignore[no-untyped-call]
        found = self._client.list_offsets(latest)
        return {(at.topic, at.partition): int(future.result(ASK_SECONDS).offset) for at, future in found.items()}


def read(bootstrap: str, begin: Ends, end: Ends) -> Iterator[Message]:
    """All records between two looks, partition by partition in order, in no order between partitions."""
    wanted = {at for at in end if end[at] > begin.get(at, 0)}
    if not wanted:
        return
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{uuid4().hex}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": 65_536,
            "log_level": 0,
        }
    )
    try:
        consumer.assign([TopicPartition(*at, begin.get(at, 0)) for at in wanted])
        while wanted:
            messages = consumer.consume(READ_AT_ONCE, 1.0)
            for message in messages:
                if (error := message.error()) is not None:
                    raise RuntimeError(f"the log could not be read: {error}")
                at, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
                if at in wanted and offset < end[at]:
                    yield message
                    if offset == end[at] - 1:
                        wanted.discard(at)
    finally:
        consumer.close()


def key_and_name(message: Message) -> tuple[str, str]:
    """What a record is about, and the name of its event."""
    found: dict[str, Any] = dict(message.headers() or ())
    key = message.key() or b""
    return key.decode() if isinstance(key, bytes) else key, bytes(found.get("ce_type", b"")).decode()


def bytes_on_disk(data: Path, names: Iterable[str]) -> int | None:
    """What the topics' segments hold, on the first broker of an embedded stack; None for a Kafka somewhere else."""
    folder = data / "kafka-1" / "log"
    if not folder.exists():
        return None
    return sum(file.stat().st_size for name in names for file in folder.glob(f"{name}-[0-9]*/*.log"))


async def put_goods(addresses: Addresses, workload: Workload) -> None:
    """Ask for the price and the stock of everything that the workload sells."""
    price = Money(amount_minor=PRICE_MINOR, currency=CURRENCY)
    tenant = workload.tenant
    requests: list[Request] = []
    for sku, pieces in workload.goods.items():
        requests.append(SetPrice(tenant=tenant, sku=sku, price=price, request_id=f"price-{sku}"))
        if pieces:
            requests.append(ReceiveStock(tenant=tenant, sku=sku, quantity=pieces, request_id=f"stock-{sku}"))
    await put(addresses, requests)


async def put(addresses: Addresses, requests: Iterable[Request]) -> int:
    """Append requests to the log as the gateway does, with its headers. How many; all are acknowledged then."""
    codec = Codec(Language.load(), ConfluentRegistry(addresses.registry_url))
    for event in (PlaceOrder, CancelOrder, SetPrice, ReceiveStock):
        await codec.prepare(event.topic, [event])
    producer = AIOKafkaProducer(
        bootstrap_servers=addresses.kafka_bootstrap, acks="all", enable_idempotence=True, linger_ms=20
    )
    await producer.start()
    count = 0
    try:
        for count, request in enumerate(requests, start=1):  # noqa: B007
            headers = [
                ("ce_specversion", b"1.0"),
                ("ce_id", uuid4().hex.encode()),
                ("ce_source", b"bench"),
                ("ce_type", type(request).__name__.encode()),
                ("correlation", uuid4().hex.encode()),
            ]
            await producer.send(request.topic, codec.encode(request), key=request.key.encode(), headers=headers)
    finally:
        await producer.stop()
    return count
