"""What the demonstration asks for, and how it must end: decided by the data and a seed, and by nothing else.

Each row of the record is one order whose lines add up to exactly the row's cents. The seed decides which customers pay
with a card that is declined, which parcels go where no carrier goes, which orders their customers cancel while they
run, and of which goods there is too little.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from api.idempotency import name_of
from pavane.demo.cdnow import Row

TENANT = "cdnow"
CURRENCY = "USD"
PAYS, DECLINED, DECLINED_AT_CAPTURE = "card-ok", "card-declined", "card-declined-at-capture"
DECLINED_CUSTOMERS = 0.025
DECLINED_AT_CAPTURE_CUSTOMERS = 0.007
REFUSED_PARCELS = 0.008
CANCELLED_ORDERS = 0.012
#: A wish to cancel comes at some moment of this time: at any stage of the order, and sometimes too late.
CANCELLED_WITHIN_SECONDS = 0.3
#: Goods with too little stock: this many, of those that the first orders want in between so many pieces.
SCARCE_ITEMS = 4
SCARCE_AMONG_ORDERS = 500
SCARCE_DEMAND = range(5, 13)
#: What there is of them, as a share of what those first orders want.
SCARCE_SHARE = 0.5
#: The first three digits 000: to those the carrier does not go.
REFUSED_POSTAL_CODE = "00012"


class Outcome(StrEnum):
    """How an order ends. All but the first and the last are reasons of `OrderCancelled`."""

    CONFIRMED = "CONFIRMED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    PAYMENT_DECLINED = "PAYMENT_DECLINED"
    NOT_SHIPPABLE = "NOT_SHIPPABLE"
    CUSTOMER = "CUSTOMER"
    DEADLINE = "DEADLINE"
    REJECTED = "REJECTED"


class Line(NamedTuple):
    """So many pieces of what costs `unit_cents`. Equal prices are one SKU."""

    unit_cents: int
    quantity: int

    @property
    def sku(self) -> str:
        return f"cd-{self.unit_cents}"


class Order(NamedTuple):
    """One order to place. `cancel_after_seconds`: when its customer changes their mind, after it was accepted."""

    number: int
    id: str
    customer: str
    lines: tuple[Line, ...]
    cents: int
    payment_method: str
    postal_code: str
    cancel_after_seconds: float | None
    #: Every end that the data and the seed allow; one, but where it depends on who comes first.
    may_end: frozenset[Outcome]

    @property
    def key(self) -> str:
        """Its Idempotency-Key. Its id follows from it, so that the same folder has the same orders at each start."""
        return key_of(self.number)


class Plan(NamedTuple):
    """All orders by date, and the pieces of each price that are received."""

    orders: Sequence[Order]
    #: Pieces to receive, by the price of one in cents.
    stock: dict[int, int]
    #: The SKUs of which there is too little.
    scarce: Sequence[str]


def make(rows: Sequence[Row], seed: int) -> Plan:
    """The plan for all rows. The same rows and seed give the same plan."""
    lines = [lines_of(row) for row in rows]
    scarce = _scarce(lines, seed)
    stock = {**_demand(lines), **scarce}
    orders = [_order(number, row, lines[number - 1], scarce, seed) for number, row in enumerate(rows, start=1)]
    return Plan(orders, stock, [Line(price, 1).sku for price in sorted(scarce)])


def lines_of(row: Row) -> tuple[Line, ...]:
    """One line where the cents divide by the pieces; else the last piece has a line and a price of its own."""
    each, rest = divmod(row.cents, row.pieces)
    if rest == 0:
        return (Line(each, row.pieces),)
    return (Line(each, row.pieces - 1), Line(each + rest, 1))


def key_of(number: int) -> str:
    return f"cdnow-{number:05d}"


def chance(seed: int, *what: object) -> float:
    """A number from 0 to 1 that depends on nothing but its arguments."""
    digest = hashlib.blake2b("/".join(map(str, (seed, *what))).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _order(number: int, row: Row, lines: tuple[Line, ...], scarce: dict[int, int], seed: int) -> Order:
    method = _method(row.customer, seed)
    refused = chance(seed, "parcel", number) < REFUSED_PARCELS
    cancelled = chance(seed, "cancel", number) < CANCELLED_ORDERS
    return Order(
        number=number,
        id=name_of(TENANT, key_of(number)),
        customer=row.customer,
        lines=lines,
        cents=row.cents,
        payment_method=method,
        postal_code=REFUSED_POSTAL_CODE if refused else f"1{row.customer[-4:]}",
        cancel_after_seconds=chance(seed, "when", number) * CANCELLED_WITHIN_SECONDS if cancelled else None,
        may_end=ends_of(
            method if row.cents else PAYS, refused, cancelled, any(line.unit_cents in scarce for line in lines)
        ),
    )


def ends_of(method: str, refused: bool, cancelled: bool, scarce: bool) -> frozenset[Outcome]:
    """The end when everything goes its way, and those that come first or not. Free orders never ask for money."""
    if method == DECLINED:
        end = Outcome.PAYMENT_DECLINED
    elif refused:
        end = Outcome.NOT_SHIPPABLE
    elif method == DECLINED_AT_CAPTURE:
        end = Outcome.PAYMENT_DECLINED
    else:
        end = Outcome.CONFIRMED
    others = {Outcome.CUSTOMER} if cancelled else set()
    return frozenset({end} | others | ({Outcome.OUT_OF_STOCK} if scarce else set()))


def _method(customer: str, seed: int) -> str:
    luck = chance(seed, "card", customer)
    if luck < DECLINED_CUSTOMERS:
        return DECLINED
    return DECLINED_AT_CAPTURE if luck < DECLINED_CUSTOMERS + DECLINED_AT_CAPTURE_CUSTOMERS else PAYS


def _demand(lines: Iterable[tuple[Line, ...]]) -> Counter[int]:
    wanted: Counter[int] = Counter()
    for of_order in lines:
        for line in of_order:
            wanted[line.unit_cents] += line.quantity
    return wanted


def _scarce(lines: Sequence[tuple[Line, ...]], seed: int) -> dict[int, int]:
    early = _demand(lines[:SCARCE_AMONG_ORDERS])
    candidates = sorted(price for price, pieces in early.items() if pieces in SCARCE_DEMAND)
    candidates.sort(key=lambda price: chance(seed, "scarce", price))
    return {price: int(early[price] * SCARCE_SHARE) for price in candidates[:SCARCE_ITEMS]}
