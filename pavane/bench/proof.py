"""A figure counts only if what it measures was right: every order ended as it may, and no invariant is broken."""

import os
from collections import Counter
from collections.abc import Iterable

import psycopg

from infra.addresses import Addresses
from infra.errors import InfraError
from pavane.audit import audit
from pavane.bench.workload import Asked
from pavane.platform import Platform

SETTLED_SECONDS = 600.0
MOST_EXAMPLES = 3


class NotProven(InfraError):
    """Something did not come out right, so there is no figure."""


async def ends(addresses: Addresses, tenant: str) -> dict[str, str]:
    """How each order of the tenant stands in orders' own table: its end in capitals, or `PLACED`."""
    async with await psycopg.AsyncConnection.connect(addresses.postgres["orders"], autocommit=True) as connection:
        cursor = await connection.execute(
            "SELECT order_id, CASE status WHEN 'cancelled' THEN reason ELSE upper(status) END FROM orders "
            "WHERE tenant = %s",
            (tenant,),
        )
        return dict(await cursor.fetchall())


async def check_ends(addresses: Addresses, tenant: str, orders: Iterable[Asked]) -> Counter[str]:
    """How many ended how. Raises `NotProven` when one ended as it may not."""
    found = await ends(addresses, tenant)
    wrong = [
        f"order {asked.order_id} ended as {found.get(asked.order_id)}, not as {' or '.join(sorted(asked.kind.ends))}"
        for asked in orders
        if found.get(asked.order_id) not in asked.kind.ends
    ]
    if wrong:
        raise NotProven(f"{len(wrong):,} orders did not end as they must: {'; '.join(wrong[:MOST_EXAMPLES])}")
    return Counter(found.values())


async def check_invariants(platform: Platform, has_parked: bool = False) -> int:
    """How many invariants hold. Raises `NotProven` when one is broken, or something has not come to rest.

    `has_parked`: some records are parked on purpose; what waits for them is then not settled.
    """
    await platform.settled(SETTLED_SECONDS)
    report = await audit({**os.environ, **platform.stack.addresses.environment()})
    unclean = [each for each in report.verdicts if not each.clean]
    broken = [f"{each.name}: {'; '.join(each.violations[:MOST_EXAMPLES])}" for each in unclean]
    if broken:
        raise NotProven(f"the audit is not clean: {'. '.join(broken)}")
    if report.unsettled and not has_parked:
        unsettled = [f"{each.name}: {each.unsettled:,}" for each in report.verdicts if each.unsettled]
        raise NotProven(f"the audit could not judge everything: {', '.join(unsettled)}")
    return len(report.invariants)


