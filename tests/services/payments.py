"""Payments for tests: what is asked of the provider, and what its records say of it."""

from typing import Any

import psycopg

from streams.billing.provider import AuthorizePayment, CapturePayment, ReversePayment
from streams.kit.money import Money

AMOUNT = Money(amount_minor=1000, currency="EUR")
LEASE_SECONDS = 1.0


def authorize(order_id: str) -> AuthorizePayment:
    return AuthorizePayment(order_id=order_id, amount=AMOUNT, method="card-ok")


def capture(order_id: str) -> CapturePayment:
    return CapturePayment(order_id=order_id, amount=AMOUNT)


def reverse(order_id: str) -> ReversePayment:
    return ReversePayment(order_id=order_id)


async def done(url: str, orders: list[str]) -> dict[str, list[int]]:
    """How often each verb changed something at the provider: for each verb the different counts of the orders."""
    query = """
        SELECT verb, array_agg(DISTINCT changes ORDER BY changes) FROM (
            SELECT verb, key, count(*) FILTER (WHERE changed) AS changes
            FROM payment_calls WHERE key = ANY(%s) GROUP BY verb, key
        ) AS each_payment GROUP BY verb ORDER BY verb
    """
    return dict(await _rows(url, query, orders))


async def statuses(url: str, orders: list[str]) -> dict[str, int]:
    """How many of the orders' payments have which status."""
    return dict(await _rows(url, "SELECT status, count(*) FROM payments WHERE key = ANY(%s) GROUP BY status", orders))


async def asked(url: str, order_id: str) -> int:
    """How often the provider was asked anything about an order."""
    ((calls,),) = await _rows(url, "SELECT calls FROM payments WHERE key = ANY(%s)", [order_id])
    return int(calls)


async def _rows(url: str, query: str, orders: list[str]) -> list[Any]:
    keys = [authorize(order).key for order in orders]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query.encode(), [keys])).fetchall()
