"""Writes stories into a timeline's database as the timeline does: an entry, the story and the lane's clock at once."""

from itertools import count
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

from api.settings import GatewaySettings
from streams.kit.keyring import Keyring
from streams.kit.keystore import Person

SAGA = (
    ("OrderPlaced", "orders"),
    ("InvoiceOpened", "billing"),
    ("ShipmentPlanned", "shipping"),
    ("StockReserved", "inventory"),
    ("PaymentAuthorized", "billing"),
    ("ShipmentBooked", "shipping"),
    ("PaymentCaptured", "billing"),
    ("OrderConfirmed", "orders"),
    ("StockDispatched", "inventory"),
)
_sequences = count(1)


async def token_of(environment: dict[str, str], customer: str, tenant: str = "shop") -> str:
    """What stands in stories in place of a customer's number."""
    person = Person(tenant, customer)
    async with Keyring.at(GatewaySettings.read(environment)) as keys:
        return (await keys.made_for([person]))[person].protect("customer", customer)


class Teller:
    """Tells facts of one customer's orders. `lane`: in which, if it matters."""

    def __init__(self, environment: dict[str, str], customer: str = "c7", tenant: str = "shop") -> None:
        self.environment = environment
        self.customer = customer
        self.tenant = tenant
        self._token = ""

    async def tell(
        self, order_id: str, *facts: str, lane: int = 0, parked: bool = False, speaker: str = "", **detail: Any
    ) -> None:
        """`parked`: told long after it was heard, above what its lane has heard by now."""
        speakers = dict(SAGA)
        self._token = self._token or await token_of(self.environment, self.customer, self.tenant)
        async with await psycopg.AsyncConnection.connect(self.environment["PAVANE_DATABASE_TIMELINE"]) as database:
            for fact in facts:
                said_by = speaker or speakers.get(fact, "orders")
                head = await self._moved(database, lane, said_by, 0 if parked else 1)
                await self._told(database, order_id, fact)
                row = (f"{said_by}/{lane}/{next(_sequences)}", order_id, head + parked, fact, said_by, Jsonb(detail))
                await database.execute(
                    "INSERT INTO entries VALUES (%s, %s, %s, %s, %s, now(), 'cause', 'c-1', %s)", row
                )

    async def saga(self, order_id: str, lane: int = 0) -> None:
        await self.tell(order_id, *(fact for fact, _ in SAGA), lane=lane)

    async def _moved(self, database: Any, lane: int, speaker: str, by: int) -> int:
        await database.execute("INSERT INTO lanes VALUES (%s, 4, 1) ON CONFLICT DO NOTHING", (lane,))
        await database.execute(
            "UPDATE lanes SET clock = clock || jsonb_build_object(%s::text, coalesce((clock->>%s)::int, 0) + %s)"
            " WHERE partition = %s",
            (speaker, speaker, by, lane),
        )
        found = await database.execute(
            "SELECT sum(value::int)::int FROM lanes, jsonb_each_text(clock) WHERE partition = %s", (lane,)
        )
        [head] = await found.fetchone()
        return int(head)

    async def _told(self, database: Any, order_id: str, fact: str) -> None:
        status = {"OrderConfirmed": "confirmed", "OrderCancelled": "cancelled"}.get(fact)
        await database.execute(
            "INSERT INTO stories VALUES (%s, %s, %s, 'placed', 'placed', '[]', 1200, 'EUR', '', now(), now(), NULL, 1)"
            " ON CONFLICT (order_id) DO UPDATE SET length = stories.length + 1, updated_at = now(),"
            " status = coalesce(%s, stories.status)",
            (order_id, self.tenant, self._token, status),
        )


def new_order() -> str:
    return str(uuid4())
