"""Fills the shop: prices and stock, asked for on the log as a shop's own systems would."""

from collections.abc import Iterable

from aiokafka import AIOKafkaProducer

from api.events import ReceiveStock, SetPrice
from infra.addresses import Addresses
from pavane.demo.plan import CURRENCY, TENANT, Line, Order, Plan
from streams.kit.codec import Codec
from streams.kit.language import Language
from streams.kit.money import Money
from streams.kit.registry import ConfluentRegistry

TOPICS = (SetPrice.topic, ReceiveStock.topic)


async def fill(addresses: Addresses, plan: Plan, orders: Iterable[Order]) -> int:
    """Ask for the price and the stock of all that `orders` want; how many goods that are.

    The request ids are the same at each start, so what was received before is not received again.
    """
    codec = Codec(Language.load(), ConfluentRegistry(addresses.registry_url))
    await codec.prepare(SetPrice.topic, [SetPrice])
    await codec.prepare(ReceiveStock.topic, [ReceiveStock])
    wanted = sorted({line.unit_cents for order in orders for line in order.lines})
    producer = AIOKafkaProducer(
        bootstrap_servers=addresses.kafka_bootstrap, acks="all", enable_idempotence=True, linger_ms=5
    )
    await producer.start()
    try:
        for cents in wanted:
            for request in _requests(cents, plan.stock[cents]):
                await producer.send(type(request).topic, codec.encode(request), key=request.key.encode())
    finally:
        await producer.stop()
    return len(wanted)


def _requests(cents: int, pieces: int) -> Iterable[SetPrice | ReceiveStock]:
    sku = Line(cents, 1).sku
    price = Money(amount_minor=cents, currency=CURRENCY)
    yield SetPrice(tenant=TENANT, sku=sku, price=price, request_id=f"price-{sku}")
    yield ReceiveStock(tenant=TENANT, sku=sku, quantity=pieces, request_id=f"stock-{sku}")
