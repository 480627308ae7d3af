"""What the explorer walks: some orders, what may be asked about them, and what must hold in every end.

The invariants are the audit's own (`pavane.audit`), asked of the rows and records of one end state. That rows are what
the facts make of them is not among these: here they are made of nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from choreography.dancers import NOON, Dancers
from choreography.lanes import Lane, Lanes
from pavane.audit import orders as ends
from pavane.audit import settlement, stock
from pavane.audit.orders import OrderFacts
from pavane.audit.report import Verdict
from pavane.audit.world import Charge, Parcel, World
from streams.billing.model import Invoice
from streams.billing.simulator import DECLINED, DECLINED_AT_CAPTURE, Payment
from streams.inventory.events import AdjustStock, ReceiveStock
from streams.inventory.model import Movement, Reservation, Stock
from streams.kit.events import Event, Fact, State
from streams.kit.money import Money
from streams.kit.service import Service
from streams.kit.simulation import Script
from streams.orders.events import Address, CancelOrder, OrderLine, PlaceOrder, SetPrice
from streams.orders.model import Order
from streams.shipping.model import Shipment
from streams.shipping.simulator import Booking

SHOP = "shop"
SKUS = {"lamp": 500, "leaflet": 0}
#: A customer's retry: the same request may come once more.
TIMES = 2


class Customer(NamedTuple):
    """Who orders: how they pay, where they live, what they want."""

    method: str = "card-ok"
    country: str = "DE"
    sku: str = "lamp"
    quantity: int = 1


#: Every outcome of every effect, an order that is free, one of which there is too little, one that is not taken at all.
CUSTOMERS = {
    "pays": Customer(),
    "is declined": Customer(method=DECLINED),
    "is declined at capture": Customer(method=DECLINED_AT_CAPTURE),
    "lives where no carrier goes": Customer(country="XX"),
    "orders what is free": Customer(sku="leaflet"),
    "orders more than there is": Customer(quantity=2),
    "orders what has no price": Customer(sku="rumour"),
}


class Scenario:
    """Some orders over one item of each kind, by these services. `world`: of whom they ask, if not the simulators."""

    def __init__(
        self,
        services: Iterable[Service],
        customers: Sequence[Customer],
        world: Mapping[str, Script[Any]] | None = None,
        on_hand: int = 1,
    ) -> None:
        self.dancers = Dancers(services, world)
        self.keys = [f"0190a000-0000-7000-8000-{number:012d}" for number in range(1, len(customers) + 1)]
        number = self.dancers.values.number
        owners: dict[int, int] = {}
        orders = self.dancers.names.index("orders")
        asked = []
        for key, customer in zip(self.keys, customers, strict=True):
            requests = [number(place(key, customer)), number(CancelOrder(tenant=SHOP, order_id=key))]
            owners.update(dict.fromkeys(requests, orders))
            asked.append(tuple((request, TIMES) for request in requests))
        self.lanes = Lanes(self.dancers, owners)
        self.shared = self._prepared(on_hand)
        self.start = [self.lanes.new(number(key), each) for key, each in zip(self.keys, asked, strict=True)]
        self._judged = lru_cache(maxsize=None)(self._judge)

    def _prepared(self, on_hand: int) -> int:
        """Prices are set and goods counted in, by the services' own decisions."""
        requests: list[tuple[str, Event, str]] = []
        for sku, amount in SKUS.items():
            item = f"{SHOP}/{sku}"
            price = Money(amount_minor=amount, currency="EUR")
            asked = SetPrice(at=NOON, tenant=SHOP, sku=sku, price=price, request_id="price")
            requests.append(("orders", asked, item))
            receipt = ReceiveStock(tenant=SHOP, sku=sku, quantity=on_hand + 1, request_id="receipt")
            loss = AdjustStock(tenant=SHOP, sku=sku, quantity=-1, reason="broken", request_id="loss")
            requests += [("inventory", receipt, item), ("inventory", loss, item)]
        shared, number = 0, self.dancers.values.number
        for name, event, item in requests:
            service = self.dancers.names.index(name)
            followed = self.dancers.hear(service, number(event), number(item), 0, shared, 0)
            everything = (*self.dancers.values[followed.rows], *self.dancers.values[followed.shared])
            shared = number(tuple(sorted(everything, key=lambda row: (row.table, row.row_key))))
        return shared

    # -- what must hold ------------------------------------------------------------------------------------------------

    def always(self, shared: int) -> str:
        """What is wrong with the shared rows, at any moment; empty if nothing is."""
        for row in self.dancers.values[shared]:
            if isinstance(row, Stock):
                there = row.on_hand + row.reserved + row.dispatched
                if min(row.on_hand, row.reserved, row.dispatched) < 0 or row.received + row.adjusted != there:
                    return f"the stock of {row.item} is wrong: {row}"
        return ""

    def rows_beside_shared(self, lane: Lane) -> Iterator[int]:
        """The order's own rows at the services that have shared ones, which must agree with them."""
        for service, part in zip(self.dancers.services, lane.parts, strict=True):
            if service.shares:
                yield part.rows

    def at_end(self, lanes: Sequence[Lane], shared: int, others: Iterable[int] = ()) -> str:
        """What is wrong when nothing more happens to these orders by themselves; empty if nothing is.

        `others`: such rows of orders that are still on their way.
        """
        for lane in lanes:
            if found := self._judged(lane):
                return found
        beside = [*others, *(rows for lane in lanes for rows in self.rows_beside_shared(lane))]
        rows = [row for number in beside for row in self.dancers.values[number]]
        common = self.dancers.values[shared]
        stocks = {row.item: row for row in common if isinstance(row, Stock)}
        reservations = [row for row in rows if isinstance(row, Reservation)]
        movements = [row for row in common if isinstance(row, Movement)]
        return _told(stock.balances(stocks, None, reservations, movements))

    def _judge(self, lane: Lane) -> str:
        """One order at its end: the audit's invariants of an order."""
        values = self.dancers.values
        key = values[lane.key]
        for service, part in zip(self.dancers.names, lane.parts, strict=True):
            if part.parked or part.said:
                return f"{service}: something is left that nobody hears: {[values[each[0]] for each in part.said]}"
        facts = _facts(values[fact] for fact in lane.told)
        if facts is None:
            return "" if not lane.told else "facts without an order"
        rows = [row for part in lane.parts for row in values[part.rows]]
        records = [record for part in lane.parts for record in values[part.world]]
        order = next((row for row in rows if isinstance(row, Order)), None)
        if facts.count(ends.ENDINGS) != 1 or facts.count(ends.BEGINNINGS) != 1:
            return f"the order does not end exactly once: {', '.join(name for name, _ in facts.said) or 'no end'}"
        if order is None or order.due_at is not None:
            return "the order has ended and still waits for its deadline"
        remains = _remains(key, rows, records)
        verdicts = (settlement.confirmed, settlement.undone)
        return next((told for each in verdicts if (told := _told(each({key: facts}, remains, _handled, NOON)))), "")


def place(key: str, customer: Customer) -> PlaceOrder:
    """The request of this customer."""
    home = Address(
        recipient="A. Reader", street="Main Street 1", postal_code="10115", city="Berlin", country=customer.country
    )
    return PlaceOrder(
        at=NOON, tenant=SHOP, order_id=key, customer="customer-1",
        lines=(OrderLine(sku=customer.sku, quantity=customer.quantity),), currency="EUR",
        payment_method=customer.method, ship_to=home,
    )  # fmt: skip


def _facts(told: Iterable[Fact]) -> OrderFacts | None:
    found = [fact for fact in told if type(fact).__name__ in ends.BEGINNINGS | ends.ENDINGS]
    if not found:
        return None
    facts = OrderFacts(0)
    for fact in sorted(found, key=lambda fact: type(fact).__name__ not in ends.BEGINNINGS):
        facts.said.append((type(fact).__name__, len(facts.said) + 1))
        if type(fact).__name__ == ends.PLACED:
            facts.take(msgspec.to_builtins(fact))
    return facts


def _remains(key: str, rows: Sequence[State], records: Sequence[Any]) -> settlement.Remains:
    charges = [
        Charge(r.key, r.order_id, r.status, r.amount_minor, r.currency, int(r.captured_at is not None))
        for r in records
        if isinstance(r, Payment)
    ]
    parcels = [
        Parcel(r.key, r.order_id, r.status, r.items, int(r.booked_at is not None))
        for r in records
        if isinstance(r, Booking)
    ]
    return settlement.Remains(
        {row.order_id: row for row in rows if isinstance(row, Reservation)},
        {row.order_id: row for row in rows if isinstance(row, Invoice)},
        {row.order_id: row for row in rows if isinstance(row, Shipment)},
        World({key: charges} if charges else {}, {key: parcels} if parcels else {}),
    )


def _handled(service: str, partition: int, sequence: int, key: str) -> None:
    """At its end nothing of an order waits."""


def _told(verdict: Verdict) -> str:
    return verdict.violations[0] if verdict.violations else ""
