"""A past of the whole dance in memory (`audited`), as a replay reads it."""

from pavane.replay.history import History
from streams.kit.lane import DEAD_LETTERS
from tests.pavane.audited import PARTITIONS, SCHEMAS, Shop


async def a_busy_shop() -> Shop:
    """Orders of every ending, over the last pieces of an item, with a refused request, an unreadable one, and orders
    whose payments the provider did not answer at first."""
    shop = Shop()
    shop.stock("lamp", 100)
    shop.stock("rare", 2)
    await shop.settle()
    wanted = [shop.place("lamp") for _ in range(3)]
    for method, country in (("card-declined", "DE"), ("card-declined-at-capture", "DE"), ("card-ok", "XX")):
        shop.place("lamp", method=method, country=country)
    for quantity in (3, 1, 1, 1):
        shop.place("rare", quantity)
    shop.place("unheard-of")
    shop.ask(
        "inventory.requests", "AdjustStock", "shop/lamp", sku="lamp", quantity=-1000, reason="lost", request_id="a-1"
    )
    await shop.settle("orders")
    shop.cancel(wanted[0])
    shop.append("orders.requests", wanted[1], b"no event")
    away = iter([True, True, False, True])
    shop.provider.is_away = lambda: next(away, False)
    await shop.settle()
    shop.cancel(wanted[1])
    await shop.settle()
    return shop


def past_of(shop: Shop, service: str) -> History:
    """What a replay of one service reads of it."""
    instance = shop.instances[service]
    return History(
        partition_count=PARTITIONS,
        records=lambda topic, partition: iter(list(shop.log.get((topic, partition), []))),
        schema_of=lambda number: SCHEMAS[number] if number < len(SCHEMAS) else None,
        heard=instance.clocks(),
        waiting=instance.snapshot().frozen().unhandled,
        facts=sum(len(records) for (topic, _), records in shop.log.items() if topic == service),
    )


def letters_of(shop: Shop, service: str) -> int:
    """How many records the service has put aside."""
    return sum(len(records) for (topic, _), records in shop.log.items() if topic == service + DEAD_LETTERS)
