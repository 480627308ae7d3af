"""What the gateway reads: the timeline's tables, in the timeline's own database, never written from here."""

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from api.answers import Order, Price, Stock
from api.errors import Unavailable
from streams.kit.keys import item_key
from streams.kit.logs import logger

CONNECTIONS = 8
WAIT_SECONDS = 1.0
STATEMENT_SECONDS = 2

_STORY = """
    SELECT s.order_id, s.status, s.stage, s.reason, s.lines, s.total_minor, s.currency,
           s.placed_at, s.updated_at, s.settled_at,
           coalesce((SELECT json_agg(to_json(e) ORDER BY e.ordinal) FROM entries e WHERE e.order_id = s.order_id), '[]')
               AS story
      FROM stories s
     WHERE s.order_id = %(order_id)s AND s.tenant = %(tenant)s AND s.customer = %(customer)s
"""
_SHELF = "SELECT available, reserved, dispatched FROM shelves WHERE item = %(item)s"
_TAG = "SELECT amount_minor, currency FROM tags WHERE item = %(item)s"


class Timeline:
    """Stories, stock and prices. All reads raise `Unavailable` when the database does not answer in time."""

    def __init__(self, url: str) -> None:
        self._pool: AsyncConnectionPool[AsyncConnection[dict[str, Any]]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=CONNECTIONS,
            timeout=WAIT_SECONDS,
            # Given up soon and begun again by the next reader: the pool's own attempts grow ever rarer.
            reconnect_timeout=5.0,
            open=False,
            name="timeline",
            kwargs={
                "autocommit": True,
                "row_factory": dict_row,
                "connect_timeout": 2,
                "application_name": "pavane-gateway",
                "options": f"-c statement_timeout={STATEMENT_SECONDS}s -c default_transaction_read_only=on",
            },
        )

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        await self._pool.close(timeout=1.0)

    async def order(self, order_id: str, tenant: str, customer: str) -> Order | None:
        """The order's story, if it is that customer's and was heard of."""
        row = await self._row(_STORY, {"order_id": order_id, "tenant": tenant, "customer": customer})
        return None if row is None else Order.model_validate(row)

    async def stock(self, tenant: str, sku: str) -> Stock | None:
        """What is on the shelf. Never below zero, though the sum may be for a moment (see streams/timeline)."""
        row = await self._row(_SHELF, {"item": item_key(tenant, sku)})
        return None if row is None else Stock(sku=sku, **{name: max(0, count) for name, count in row.items()})

    async def price(self, tenant: str, sku: str) -> Price | None:
        """What one piece costs."""
        row = await self._row(_TAG, {"item": item_key(tenant, sku)})
        return None if row is None else Price(sku=sku, **row)

    async def reachable(self) -> None:
        """Raises when the database does not answer or was not migrated."""
        async with self._pool.connection() as connection:
            await connection.execute("SELECT 1 FROM stories LIMIT 1")

    async def _row(self, query: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            try:
                return await self._ask(query, values)
            except psycopg.OperationalError:
                # A pooled connection may be dead since the database restarted: look at all of them, then once more.
                await self._pool.check()
                return await self._ask(query, values)
        except (psycopg.Error, PoolTimeout) as error:
            logger().warning("timeline_away", error=repr(error))
            raise Unavailable("Orders, stock and prices cannot be read for now; what was accepted goes on.") from error

    async def _ask(self, query: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchone()
