"""What is kept of a customer, counted: found by the token of the customer's number, which the timeline keeps.

Parked records that belong to no order yet are found by that token in their bytes, or by the number in plain text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import NamedTuple

import fastavro

from pavane.operators.reach import Reach
from pavane.operators.words import count
from streams.kit.keystore import Person
from streams.kit.protection import DataKey
from streams.kit.run import services

_HOLDS = "position(%s IN delivery) > 0"
#: A story in one of these has not ended: a parcel may still have to be sent.
OPEN = frozenset({"unheard", "placed"})
MOST_NAMED = 5


class Traces(NamedTuple):
    """Orders by id, with their status; how many addresses of parcels and parked records there are of them; and how many
    parked records seem to hold the customer's number in plain text."""

    orders: Mapping[str, str]
    addresses: int
    parked: int
    plain: int = 0

    @property
    def open(self) -> Sequence[str]:
        """Orders that have not ended, oldest first."""
        return [order for order, status in self.orders.items() if status in OPEN]

    def told(self) -> str:
        """In one line."""
        by_status = ", ".join(f"{number} {status}" for status, number in sorted(Counter(self.orders.values()).items()))
        orders = count(len(self.orders), "order") + (f" ({by_status})" if by_status else "")
        return f"{orders}, {self.addresses:,} addresses of parcels, {count(self.parked, 'parked record')}"

    def named(self) -> str:
        """The first open orders."""
        more = len(self.open) - MOST_NAMED
        return ", ".join(self.open[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


async def traces_of(reach: Reach, person: Person, key: DataKey) -> Traces:
    """As the databases have it now. Raises `DatabaseUnreadable`."""
    token = key.protect("customer", person.customer)
    async with reach.database("timeline", reading=True) as connection:
        cursor = await connection.execute(
            "SELECT order_id, status FROM stories WHERE tenant = %s AND customer = %s ORDER BY placed_at, order_id",
            (person.tenant, token),
        )
        orders = dict(await cursor.fetchall())
    found = list(orders)
    addresses = await _counted(reach, "shipping", "shipments WHERE ship_to IS NOT NULL AND order_id = ANY(%s)", found)
    of_them = f"parked WHERE key = ANY(%s) OR {_HOLDS}"
    parked = [await _counted(reach, service, of_them, found, token.encode()) for service in services()]
    return Traces(orders, addresses, sum(parked), await parked_in_plain(reach, person))


async def parked_in_plain(reach: Reach, person: Person) -> int:
    """How many parked records hold the customer's number in plain text, or by chance the same bytes; of any shop."""
    written = _as_avro(person.customer)
    return sum([await _counted(reach, service, f"parked WHERE {_HOLDS}", written) for service in services()])


def _as_avro(text: str) -> bytes:
    """A string as it stands in a record: with its length before it."""
    written = BytesIO()
    fastavro.schemaless_writer(written, "string", text)
    return written.getvalue()


async def _counted(reach: Reach, service: str, of: str, *values: object) -> int:
    async with reach.database(service, reading=True) as connection:
        cursor = await connection.execute(f"SELECT count(*) FROM {of}".encode(), values)
        [(found,)] = await cursor.fetchall()
        return int(found)
