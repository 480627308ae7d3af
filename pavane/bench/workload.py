"""Orders to drive through the platform, and how each may end. Everything follows from a name and a seed."""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from api.events import Address, CancelOrder, OrderLine, PlaceOrder

CONFIRMED, REJECTED = "CONFIRMED", "REJECTED"
#: A poisoned order is parked at billing: it stays placed until somebody redrives it or its deadline passes.
PLACED = "PLACED"
POISON = "poison"
GOODS = 1_000
HOT_GOODS = 10
MOST_LINES = 100
PRICE_MINOR = 1_999
PLENTY = 100_000_000
CURRENCY = "EUR"
SCARCE, UNKNOWN = "sold-out", "never-heard-of"
CANCELLED_WITHIN_ORDERS = 200


class Kind(NamedTuple):
    """Orders of one kind: what is particular about them, and every end that they may come to."""

    ends: frozenset[str]
    method: str = "card-ok"
    country: str = "DE"
    sku: str = ""
    is_cancelled: bool = False


PLAIN = Kind(frozenset({CONFIRMED}))
#: All ways to fail, in equal parts. (A deadline passes after 15 minutes: no benchmark waits for it.)
FAILING: Sequence[Kind] = (
    Kind(frozenset({"PAYMENT_DECLINED"}), method="card-declined"),
    Kind(frozenset({"PAYMENT_DECLINED"}), method="card-declined-at-capture"),
    Kind(frozenset({"NOT_SHIPPABLE"}), country="XX"),
    Kind(frozenset({"OUT_OF_STOCK"}), sku=SCARCE),
    Kind(frozenset({REJECTED}), sku=UNKNOWN),
    Kind(frozenset({CONFIRMED, "CUSTOMER"}), is_cancelled=True),
)
POISONED = Kind(frozenset({PLACED}), method=POISON)


class Shape(NamedTuple):
    """What a workload is made of. Shares are of one; `lines` are the weights of 1, 2, 3, ... lines an order."""

    goods: int = GOODS
    lines: Sequence[int] = (70, 20, 10)
    failing: float = 0.0
    poisoned: float = 0.0


class Asked(NamedTuple):
    """One order: what it asks for, and its kind."""

    order_id: str
    lines: tuple[OrderLine, ...]
    kind: Kind


class Workload:
    """The orders of one tenant, in the order in which they are asked. `goods`: SKU to pieces in stock."""

    def __init__(self, tenant: str, orders: int, shape: Shape = Shape(), seed: int = 1) -> None:
        luck = random.Random(f"{tenant}/{seed}")
        self.tenant = tenant
        self.goods: Mapping[str, int] = {**{f"sku-{n}": PLENTY for n in range(shape.goods)}, SCARCE: 0}
        self.orders = [self._one(luck, shape) for _ in range(orders)]
        self._luck = luck

    def requests(self) -> Iterator[PlaceOrder | CancelOrder]:
        """As they come onto the log: a wish to cancel some orders later than the order."""
        wishes: dict[int, list[Asked]] = {}
        for number, asked in enumerate(self.orders):
            yield self._place(asked)
            if asked.kind.is_cancelled:
                when = number + self._luck.randrange(CANCELLED_WITHIN_ORDERS)
                wishes.setdefault(min(when, len(self.orders) - 1), []).append(asked)
            for wish in wishes.pop(number, ()):
                yield CancelOrder(tenant=self.tenant, order_id=wish.order_id, asked_by="customer-1")

    def _one(self, luck: random.Random, shape: Shape) -> Asked:
        kind = PLAIN
        chance = luck.random()
        if chance < shape.failing:
            kind = luck.choice(FAILING)
        elif chance < shape.failing + shape.poisoned:
            kind = POISONED
        count = luck.choices(range(1, len(shape.lines) + 1), shape.lines)[0]
        numbers = luck.sample(range(shape.goods), min(count, shape.goods))
        skus = [kind.sku or f"sku-{number}" for number in (numbers[:1] if kind.sku else numbers)]
        lines = tuple(OrderLine(sku=sku, quantity=luck.randint(1, 3)) for sku in skus)
        return Asked(str(UUID(int=luck.getrandbits(128), version=4)), lines, kind)

    def _place(self, asked: Asked) -> PlaceOrder:
        return PlaceOrder(
            tenant=self.tenant,
            order_id=asked.order_id,
            customer="customer-1",
            lines=asked.lines,
            currency=CURRENCY,
            payment_method=asked.kind.method,
            ship_to=Address(
                recipient="Ada Lovelace",
                street="Ockham Park 1",
                postal_code="10115",
                city="Berlin",
                country=asked.kind.country,
            ),
        )


def only(lines: int) -> Sequence[int]:
    """The weights with which every order has so many lines."""
    return [0] * (lines - 1) + [1]
