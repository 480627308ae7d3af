"""What only databases know: the provider's and the carrier's own records, who owns lanes, when an order is due."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from streams.kit.shop import Order

#: What a provider and a carrier still have to do with a payment and a parcel; everything else is over.
HELD = frozenset({"authorized", "captured", "capture_declined"})
BOOKED = frozenset({"booked"})


class Records:
    """Reads the stack's databases, past all services."""

    def __init__(self, databases: Mapping[str, str]) -> None:
        self._databases = databases

    async def payment(self, order: Order) -> str:
        """How the order's payment stands at the provider; "unknown" when it was never asked about it."""
        found = await self._rows("world", "SELECT status FROM payments WHERE order_id = %s", order.id)
        return found[0]["status"] if found else "unknown"

    async def parcel(self, order: Order) -> str:
        """How the order's parcel stands at the carrier; "unknown" when it was never asked about it."""
        found = await self._rows("world", "SELECT status FROM bookings WHERE order_id = %s", order.id)
        return found[0]["status"] if found else "unknown"

    async def captures(self, orders: Sequence[Order]) -> dict[str, int]:
        """How many times the provider took money, for each of the orders that it took money for."""
        query = (
            "SELECT order_id, count(*) AS times FROM payment_calls JOIN payments USING (key) "
            "WHERE verb = 'CapturePayment' AND outcome = 'Captured' AND changed AND order_id = ANY(%s) "
            "GROUP BY order_id"
        )
        found = await self._rows("world", query, [order.id for order in orders])
        return {row["order_id"]: row["times"] for row in found}

    async def epochs(self, service: str) -> dict[int, int]:
        """How many times each lane of the service was taken over."""
        found = await self._rows(service, "SELECT partition, epoch FROM lanes")
        return {row["partition"]: row["epoch"] for row in found}

    async def open_orders(self, tenant: str) -> int:
        """How many of the shop's orders are neither rejected, confirmed nor cancelled."""
        query = "SELECT count(*) FROM orders WHERE status = 'placed' AND tenant = %s"
        return int((await self._rows("orders", query, tenant))[0]["count"])

    async def let_the_deadline_pass(self, order: Order) -> None:
        """Make the order overdue."""
        overdue = "now() - interval '1 second'"
        query = f"UPDATE orders SET due_at = {overdue} WHERE order_id = %s AND status = 'placed' RETURNING order_id"
        assert await self._rows("orders", query, order.id), f"{order} is not open, so it has no deadline"

    async def deadlines(self, orders: Sequence[Order]) -> dict[str, Any]:
        """When each of the orders is due; none for those that are final."""
        query = "SELECT order_id, due_at FROM orders WHERE order_id = ANY(%s)"
        found = await self._rows("orders", query, [order.id for order in orders])
        return {row["order_id"]: row["due_at"] for row in found}

    async def _rows(self, database: str, query: str, *values: Any) -> list[dict[str, Any]]:
        async with await psycopg.AsyncConnection.connect(
            self._databases[database], autocommit=True, row_factory=dict_row
        ) as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall()
