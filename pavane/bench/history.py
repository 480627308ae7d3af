"""A log of very many orders, as the services would have said it, but without them: what a rebuild is measured on.

One order of each kind is played through the real decisions; its facts are then said of every order, with the order's
own id and goods, in sequences, clocks and causes as workers give them that hear a batch at a time. What is written is
the requests and the facts of the four services; databases and the records of provider and carrier stay empty.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import Producer

from api.events import Address, OrderLine, PlaceOrder, ReceiveStock, SetPrice
from contracts.choreography import GATEWAY, ORDER, Step, example, play
from infra import topics
from infra.addresses import Addresses
from pavane.bench.proof import NotProven
from pavane.bench.workload import CURRENCY, PLENTY, PRICE_MINOR
from streams.inventory.events import StockReceived
from streams.kit import envelope
from streams.kit.codec import Codec
from streams.kit.events import Event, Fact, Request
from streams.kit.kafka import partition_of
from streams.kit.keys import item_key
from streams.kit.lane import REQUESTS
from streams.kit.language import Language
from streams.kit.money import Money
from streams.kit.registry import ConfluentRegistry
from streams.kit.run import find, services
from streams.orders.events import PriceSet

TENANT = "shop"
GOODS = 1_000
#: As many characters as the SKU of `example` has, so that its bytes can be exchanged.
SKU = b"lamp"
ORDERS_AT_ONCE = 500
#: Kafka takes no time that is far ahead, so the log begins a day ago.
DAY_MILLISECONDS = 86_400_000
#: Of a lane: a thousand orders a second in four lanes.
MILLISECONDS_AN_ORDER = 4
#: So many orders of ten are confirmed; the others' payment is declined.
CONFIRMED_OF_TEN = 9
_producing = {
    "enable.idempotence": True,
    "linger.ms": 50,
    "batch.size": 1_000_000,
    "queue.buffering.max.kbytes": 262_144,
    "queue.buffering.max.messages": 1_000_000,
    "delivery.report.only.error": True,
    "log_level": 0,
}
Headers = list[tuple[str, str | bytes | None]]


class Line(NamedTuple):
    """One event of a played order: on which topic, its bytes, and which event before it is its cause (-1: none)."""

    topic: str
    name: str
    value: bytes
    cause: int


class Writing:
    """Writes a history. `facts`: how many facts each service has said so far."""

    def __init__(self, addresses: Addresses) -> None:
        self._codec = Codec(Language.load(), ConfluentRegistry(addresses.registry_url))
        self._refused: list[str] = []
        told = {"on_delivery": lambda error, _: self._refused.append(str(error))}
        self._producer = Producer({**_producing, **told, "bootstrap.servers": addresses.kafka_bootstrap})
        lanes = topics.wanted(addresses.kafka_bootstrap)[0].partitions
        self._lanes = [_Lane(partition, self._producer) for partition in range(lanes)]

    @property
    def facts(self) -> Mapping[str, int]:
        names = [name for name in services() if find(name).says]
        return {name: sum(lane.said.get(name, 0) for lane in self._lanes) for name in names}

    async def write(self, orders: int, seed: int, tell: Callable[[int], None]) -> None:
        """Goods, then so many orders. `tell` is told how many are written. Raises `NotProven`."""
        dancers = [find(name) for name in services()]
        for service in dancers:
            await self._codec.prepare(service.name, service.says.values())
        for request in (PlaceOrder, SetPrice, ReceiveStock):
            await self._codec.prepare(request.topic, [request])
        self._goods()
        sagas = [self._lines(list(play(example(method), dancers))) for method in ("card-declined", "card-ok")]
        waiting: dict[tuple[int, bool], list[tuple[bytes, bytes]]] = {}
        chance = random.Random(seed)
        for number in range(orders):
            order = _order_id(chance.getrandbits(128))
            place = partition_of(order, len(self._lanes)), number % 10 < CONFIRMED_OF_TEN
            waiting.setdefault(place, []).append((order, _sku(number % GOODS)))
            if len(waiting[place]) == ORDERS_AT_ONCE:
                self._lanes[place[0]].say(sagas[place[1]], waiting.pop(place))
                tell(number)
        for (partition, ends_well), batch in waiting.items():
            self._lanes[partition].say(sagas[ends_well], batch)
        self._producer.flush()
        if self._refused:
            raise NotProven(f"Kafka did not take {len(self._refused):,} records: {self._refused[0]}")

    def _goods(self) -> None:
        """A price and plenty of every item."""
        price = Money(amount_minor=PRICE_MINOR, currency=CURRENCY)
        for number in range(GOODS):
            sku, key = _sku(number).decode(), item_key(TENANT, _sku(number).decode())
            lane = self._lanes[partition_of(key.encode(), len(self._lanes))]
            asked: Sequence[tuple[Request, Fact]] = (
                (
                    SetPrice(tenant=TENANT, sku=sku, request_id=f"price-{sku}", price=price),
                    PriceSet(tenant=TENANT, sku=sku, request_id=f"price-{sku}", price=price),
                ),
                (
                    ReceiveStock(tenant=TENANT, sku=sku, request_id=f"stock-{sku}", quantity=PLENTY),
                    StockReceived(tenant=TENANT, sku=sku, request_id=f"stock-{sku}", quantity=PLENTY),
                ),
            )
            for request, fact in asked:
                owner = request.topic.removesuffix(REQUESTS)
                lines = [self._line(request.topic, request, -1), self._line(owner, fact, 0)]
                lane.say(lines, [(key.encode(), SKU)])

    def _lines(self, steps: Sequence[Step]) -> Sequence[Line]:
        return [
            self._line(PlaceOrder.topic if step.speaker == GATEWAY else step.speaker, _request(step.value), step.cause)
            for step in steps
        ]

    def _line(self, topic: str, event: Request | Fact, cause: int) -> Line:
        return Line(topic, type(event).__name__, self._codec.encode(event), cause)


class _Lane:
    """One lane of every topic: what was said in it, and what each speaker had heard."""

    def __init__(self, partition: int, producer: Producer) -> None:
        self.said: dict[str, int] = {}
        self._partition = partition
        self._producer = producer
        self._hears = {name: find(name).topics for name in services() if find(name).says}
        self._clocks: dict[str, dict[str, int]] = {name: {} for name in self._hears}
        self._at = int(time.time() * 1000) - DAY_MILLISECONDS

    def say(self, lines: Sequence[Line], batch: Sequence[tuple[bytes, bytes]]) -> None:
        """Every event of these orders (key, SKU): the first event of all of them, then the second, and so on."""
        first: list[int] = []
        for line in lines:
            first.append(self.said.get(line.topic, 0) + 1)
            common = self._heard(line)
            for number, (key, sku) in enumerate(batch):
                self.said[line.topic] = sequence = first[-1] + number
                headers = common
                if line.cause >= 0:
                    headers = [
                        *common,
                        ("ce_id", f"{line.topic}/{self._partition}/{sequence}".encode()),
                        ("cause", self._id(lines[line.cause].topic, first[line.cause] + number)),
                        ("correlation", b"%s/%d" % (key, self._partition)),
                    ]
                self._append(line.topic, key, line.value.replace(ORDER.encode(), key).replace(SKU, sku), headers)
        self._at += len(batch) * MILLISECONDS_AN_ORDER

    def _heard(self, line: Line) -> Headers:
        """The speaker hears all that there is; what all its facts then have in common."""
        if line.cause < 0:
            return []
        clock = self._clocks[line.topic]
        for other in self._hears[line.topic]:
            for who, known in self._clocks.get(other, {}).items():
                if who not in self._hears[line.topic]:
                    clock[who] = max(clock.get(who, 0), known)
        clock.update({topic: self.said[topic] for topic in self._hears[line.topic] if topic in self.said})
        return [
            ("ce_specversion", b"1.0"),
            ("ce_source", line.topic.encode()),
            ("ce_type", line.name.encode()),
            ("clock", envelope.write_clock(clock, without=line.topic)),
        ]

    def _id(self, topic: str, sequence: int) -> bytes:
        return f"{topic}/{self._partition}/{sequence - topic.endswith(REQUESTS)}".encode()

    def _append(self, topic: str, key: bytes, value: bytes, headers: Headers) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, value, key=key, partition=self._partition, timestamp=self._at, headers=headers
                )
                return
            except BufferError:
                self._producer.poll(0.1)


def _request(event: Event) -> Request | Fact:
    """What the gateway writes, for what `orders` hears."""
    if isinstance(event, Fact):
        return event
    place = example()
    return PlaceOrder(
        tenant=place.tenant,
        order_id=place.order_id,
        customer=place.customer,
        lines=tuple(OrderLine(sku=line.sku, quantity=line.quantity) for line in place.lines),
        currency=place.currency,
        payment_method=place.payment_method,
        ship_to=Address(**{name: getattr(place.ship_to, name) for name in Address.__struct_fields__}),
    )


def _order_id(number: int) -> bytes:
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-7{digits[13:16]}-8{digits[17:20]}-{digits[20:]}".encode()


def _sku(number: int) -> bytes:
    return b"%04d" % number
