"""A finished run as an audit looks at it, and hands to be laid on its rows, its log and the world's records."""

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from pavane.audit.decoding import Decoder
from pavane.audit.snapshot import Parked
from streams.billing.model import Invoice
from streams.billing.model import Status as Paid
from streams.inventory.model import Reservation
from streams.inventory.model import Status as Goods
from streams.kit import envelope
from streams.kit.events import State
from streams.kit.log import Record, ToSay
from streams.orders.model import Order, Status
from tests.pavane.audited import LANGUAGE, Look, Shop, headed, wire

LETTERS = "orders.dead-letters"


async def a_shop(orders: int = 3) -> Shop:
    """A shop at rest, in which so many orders of every kind have ended."""
    shop = Shop()
    shop.stock("lamp", 100)
    shop.stock("flyer", 100, price=0)
    await shop.settle()
    await sell_every_kind(shop, orders)
    return shop


async def sell_every_kind(shop: Shop, orders: int = 3) -> None:
    """So many orders of every kind, and a request that nobody can read, up to their ends."""
    for _ in range(orders):
        shop.place("lamp", 2)
        shop.place("flyer")
        shop.place("lamp", country="XX")
        shop.place("unheard-of")
    if orders:
        shop.append("orders.requests", "garbage", b"\x01")
    await shop.settle()


class Run:
    """A look that is this run's own. Holds an order of every end, and a dead letter of `orders`.

    `confirmed`: paid, not free. `free`: confirmed as well. `cancelled`: its money was voided, its stock released.
    """

    def __init__(self, look: Look) -> None:
        self.look = look.copy()
        of_orders = self._rows("orders", Order)
        paid = {row.order_id for row in self._rows("billing", Invoice) if row.status is Paid.VOIDED}
        released = {row.order_id for row in self._rows("inventory", Reservation) if row.status is Goods.RELEASED}
        ended = {status: [row for row in of_orders if row.status is status] for status in Status}
        self.confirmed = next(row.order_id for row in ended[Status.CONFIRMED] if row.amount_minor)
        self.free = next(row.order_id for row in ended[Status.CONFIRMED] if not row.amount_minor)
        self.cancelled = next(row.order_id for row in ended[Status.CANCELLED] if row.order_id in paid & released)
        self.rejected = ended[Status.REJECTED][0].order_id
        self.item = next(
            f"{row.tenant}/{row.lines[0].sku}"
            for row in self._rows("inventory", Reservation)
            if row.order_id == self.confirmed
        )
        self.letter = next(record for (topic, _), found in look.log.items() if topic == LETTERS for record in found)

    def _rows(self, service: str, state: type[Any]) -> list[Any]:
        return [self.look.seen[service].rows[state][key] for key in sorted(self.look.seen[service].rows[state])]

    # -- rows ---------------------------------------------------------------------------------------------------------

    def change(self, service: str, state: type[State], key: str, **values: Any) -> None:
        """Change a row by hand."""
        seen = self.look.seen[service]
        seen.put(seen.rows[state][key], **values)

    def add(self, service: str, state: type[State], key: str, **values: Any) -> None:
        """A number in a row is another one than the facts make."""
        row = self.look.seen[service].rows[state][key]
        self.change(service, state, key, **{name: getattr(row, name) + more for name, more in values.items()})

    def drop(self, service: str, state: type[State], key: str) -> None:
        """A row is gone."""
        del self.look.seen[service].rows[state][key]

    def plant(self, service: str, row: State) -> None:
        """A row that nobody said anything about."""
        self.look.seen[service].rows[type(row)][row.row_key] = row

    def lane(self, service: str, order_id: str, **clock: int) -> None:
        """What the order's lane knows of some speakers is more, or less."""
        partition = self.look.home(order_id.encode())
        lane = self.look.seen[service].lanes[partition]
        changed = {**lane.clock, **{who: lane.clock.get(who, 0) + more for who, more in clock.items()}}
        self.look.seen[service].lanes[partition] = lane._replace(clock=changed)

    def park(self, service: str, order_id: str, fact: Record) -> None:
        """A record waits to be handled."""
        parked = self.look.seen[service].parked
        where = (fact.partition, len(parked) + 1, order_id, True, fact.topic, fact.offset)
        parked.append(Parked(*where, "ValueError", "planted", None))

    # -- the world ----------------------------------------------------------------------------------------------------

    def charge(self, order_id: str, **values: Any) -> None:
        """The provider remembers the order's only payment otherwise."""
        self.look.charges[order_id] = [each._replace(**values) for each in self.look.charges[order_id]]

    def parcel(self, order_id: str, **values: Any) -> None:
        """The carrier remembers the order's only parcel otherwise."""
        self.look.parcels[order_id] = [each._replace(**values) for each in self.look.parcels[order_id]]

    # -- the log ------------------------------------------------------------------------------------------------------

    def fact(self, name: str, order_id: str = "") -> Record:
        """The fact of that name about the order; the confirmed one if it is not said which."""
        return next(record for record in self._facts() if self._is(record, name, order_id or self.confirmed))

    def _facts(self) -> Iterator[Record]:
        for service in ("orders", "inventory", "billing", "shipping"):
            for partition in range(self.look.partitions):
                yield from self.look.log.get((service, partition), ())

    @staticmethod
    def _is(record: Record, name: str, key: str) -> bool:
        return record.key == key.encode() and ("ce_type", name.encode()) in map(tuple, record.headers)

    def lose(self, *names: str) -> None:
        """Facts about the confirmed order are gone from the log."""
        for name in names:
            self.look.replace(self.fact(name))

    def head(self, name: str, **headers: str) -> None:
        """A fact about the confirmed order has other headers."""
        self.look.replace(self.fact(name), headed(self.fact(name), **headers))

    def tell(self, name: str, **fields: Any) -> None:
        """A fact about the confirmed order says something else in these fields."""
        fact = self.fact(name)
        _, said = Decoder(LANGUAGE, self.look.schema_of).decode(fact.topic, fact.value)
        self.look.replace(fact, replace(fact, value=wire(fact.topic, name, {**said, **fields})))

    def clock(self, name: str, **heard: int) -> None:
        """A fact about the confirmed order claims that its speaker had heard something else."""
        known = {**envelope.read(self.fact(name).headers).heard, **heard}
        self.head(name, clock=envelope.write_clock(known).decode())

    def instead(self, record: Record, *others: Record) -> None:
        self.look.replace(record, *others)

    def say_next(self, name: str, about: str) -> None:
        """The order's lane says a fact of this name, which its database does not know of."""
        like = next(record for record in self._facts() if ("ce_type", name.encode()) in map(tuple, record.headers))
        where = (like.topic, self.look.home(about.encode()))
        records = self.look.log[where]
        last = max((envelope.read(record.headers) for record in records), key=lambda said: said.sequence)
        headers = headed(
            like,
            ce_id=f"{where[0]}/{where[1]}/{last.sequence + 1}",
            clock=envelope.write_clock(last.heard).decode(),
            cause=f"{where[0]}.due/{where[1]}/{about}",
        ).headers
        said = replace(like, partition=where[1], offset=records[-1].offset + 1, key=about.encode(), headers=headers)
        records.append(said)

    def commit(self, name: str, value: bytes) -> None:
        """The outbox holds a fact about the confirmed order with other bytes."""
        fact = self.fact(name)
        other = ToSay(fact.topic, fact.timestamp, fact.key, value, envelope.with_values(fact.headers))
        self.look.seen[fact.topic].unsaid.append((fact.partition, other))

    def next_letter(self) -> None:
        """The dead letter stands in the log once more, under the next number of its lane."""
        records = self.look.log[self.letter.topic, self.letter.partition]
        last = max(int(dict(each.headers)["dead_letter_id"].rpartition(b"/")[2]) for each in records)
        own_id = f"{LETTERS}/{self.letter.partition}/{last + 1}"
        records.append(replace(headed(self.letter, dead_letter_id=own_id), offset=records[-1].offset + 1))
