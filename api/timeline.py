"""What the gateway reads: the timeline's tables, in the timeline's own database, never written from here."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from pydantic import TypeAdapter

from api.answers import Due, Entry, Order, Price, Stock, Summary
from api.cache import Name, Reading, version_of
from api.due import due
from api.errors import Unavailable
from api.late import CLOSINGS, LEARNED_FROM, LEAST_SECONDS, OPEN, OVER, Late, Story, late, usual
from streams.kit.counting import REMEMBERED
from streams.kit.keys import item_key
from streams.kit.logs import logger
from streams.kit.pool import Pool

CONNECTIONS = 8
MOST_CATCHING_UP = 3
"""Of these, for streams that are taken up again: each may have far to read, and all others read on meanwhile."""
CATCH_UP_SECONDS = 10.0
"""So long a place among those is waited for: less than a stream may say nothing."""
WAIT_SECONDS = 1.0
STATEMENT_SECONDS = 2
MOST_STORIES = 2_000
_FOR_EVER = 1 << 60
_SPEAKERS = ["orders", "inventory", "billing", "shipping"]
"""Whose facts the timeline hears; api/ imports no service, and a test holds the two equal."""
_RETRIED = "timeline.retried"
"""What it was told again, which ordinals count as well."""

_STORY = """
    SELECT s.order_id, s.status, s.stage, s.reason, s.lines, s.total_minor, s.currency,
           s.placed_at, s.updated_at, s.settled_at, s.length::text AS mark, pg_current_snapshot()::text AS snapshot,
           coalesce((SELECT json_agg(to_json(e) ORDER BY e.ordinal) FROM entries e WHERE e.order_id = s.order_id), '[]')
               AS story
      FROM stories s
     WHERE s.order_id = %(order_id)s AND s.tenant = %(tenant)s AND s.customer = %(customer)s
"""
_PAGE = """
    SELECT order_id, status, stage, reason, total_minor, currency, placed_at, updated_at, settled_at
      FROM stories
     WHERE tenant = %(tenant)s AND customer = %(customer)s AND placed_at <= %(placed_at)s
       AND (placed_at < %(placed_at)s OR order_id > %(order_id)s)
     ORDER BY placed_at DESC, order_id LIMIT %(most)s
"""
_HEADS = """
    SELECT to_regclass('entries')::oid::bigint AS view, partition,
           coalesce((SELECT sum(value::bigint)::bigint FROM jsonb_each_text(clock)
                      WHERE key = ANY(%(counted)s)), 0) AS head
      FROM (VALUES (1)) one LEFT JOIN lanes ON true
"""
# `customer` is null for the feed, which wants what everybody was told.
_TOLD = """
    SELECT seen.lane, e.ordinal, e.id, e.fact, e.order_id, s.tenant, s.customer, to_json(e)::text AS data,
           pg_current_snapshot()::text AS snapshot
      FROM unnest(%(lanes)s::text[], %(above)s::bigint[], %(until)s::bigint[]) AS seen (lane, above, until)
     CROSS JOIN LATERAL (
           SELECT * FROM entries
            WHERE split_part(id, '/'::text, 2) = seen.lane AND ordinal > seen.above AND ordinal <= seen.until
            ORDER BY ordinal LIMIT %(most)s) e
      JOIN stories s ON s.order_id = e.order_id
       AND (%(customer)s::text IS NULL OR (s.tenant = %(tenant)s AND s.customer = %(customer)s))
     ORDER BY e.ordinal
"""
_TOLD_OF = """
    SELECT split_part(id, '/'::text, 2) AS lane, ordinal, id, fact, order_id, s.tenant, s.customer,
           to_json(e)::text AS data
      FROM entries e JOIN stories s USING (order_id)
     WHERE order_id = %(order_id)s AND s.tenant = %(tenant)s AND s.customer = %(customer)s
     ORDER BY ordinal
"""
_OF_ANOTHER = """
    SELECT order_id FROM stories
     WHERE order_id = %(order_id)s AND (tenant, customer) <> (%(tenant)s, %(customer)s)
"""
_SHELF = """
    SELECT available, reserved, dispatched, concat_ws('/', available, reserved, dispatched) AS mark,
           pg_current_snapshot()::text AS snapshot
      FROM shelves WHERE item = %(item)s
"""
_TAG = """
    SELECT amount_minor, currency, concat_ws('/', amount_minor, currency) AS mark,
           pg_current_snapshot()::text AS snapshot
      FROM tags WHERE item = %(item)s
"""
ORDER, STOCK, PRICE = "order", "stock", "price"
# By kind: what all that are asked about are like now, in the words of the readings above.
_MARKS = {
    ORDER: "SELECT order_id AS which, length::text AS mark FROM stories WHERE order_id = ANY(%(which)s)",
    STOCK: "SELECT item AS which, concat_ws('/', available, reserved, dispatched) AS mark FROM shelves"
    " WHERE item = ANY(%(which)s)",
    PRICE: "SELECT item AS which, concat_ws('/', amount_minor, currency) AS mark FROM tags WHERE item = ANY(%(which)s)",
}
_MARKED = """
    SELECT pg_current_snapshot()::text AS snapshot, coalesce(json_object_agg(which, mark), '{{}}') AS marks
      FROM ({}) found
"""


_entries = TypeAdapter(list[Entry]).validate_python


class Told(NamedTuple):
    """A fact that the timeline has heard, with whose order it is about; `data`: the entry as JSON.

    `ordinal` grows within `lane`; the ordinals of different lanes say nothing about each other. `snapshot`: of the
    database, in which it was seen.
    """

    lane: int
    ordinal: int
    id: str
    fact: str
    order_id: str
    tenant: str
    customer: str
    data: str
    snapshot: str = ""

    @property
    def version(self) -> str:
        """The fact is in every reading of this version, and of higher ones (see `api.cache`)."""
        return version_of(self.snapshot)


class Heads(NamedTuple):
    """By lane: the ordinal of the last fact heard; or of one before it, up to which somebody knows everything.

    `view`: the tables in which these count. Others that took their place (`pavane rebuild timeline --swap`) number the
    facts of a lane anew.
    """

    view: int
    positions: Mapping[int, int]


class Timeline:
    """Stories, stock and prices. All reads raise `Unavailable` when the database does not answer in time."""

    def __init__(self, url: str) -> None:
        self._pool = Pool(
            url,
            "pavane-gateway",
            connections=CONNECTIONS,
            wait_seconds=WAIT_SECONDS,
            question_seconds=STATEMENT_SECONDS,
            row_factory=dict_row,
            options="-c default_transaction_read_only=on -c TimeZone=UTC",
        )
        self._catching_up = asyncio.Semaphore(MOST_CATCHING_UP)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def order(self, order_id: str, tenant: str, customer: str) -> Order | None:
        """The order's story, if it is that customer's and was heard of."""
        row = await self._row(_STORY, {"order_id": order_id, "tenant": tenant, "customer": customer})
        return None if row is None else _order(row)

    async def is_of_another(self, order_id: str, tenant: str, customer: str) -> bool:
        """Whether the order was heard of, and is somebody else's."""
        asked = {"order_id": order_id, "tenant": tenant, "customer": customer}
        return await self._row(_OF_ANOTHER, asked) is not None

    async def page(self, tenant: str, customer: str, after: tuple[datetime, str], most: int) -> list[Summary]:
        """That customer's orders, newest first, from behind the one that was placed then and has this id."""
        values = {"tenant": tenant, "customer": customer, "placed_at": after[0], "order_id": after[1], "most": most}
        return [Summary.model_validate(row) for row in await self._rows(_PAGE, values)]

    async def overdue(self, tenant: str, most: int) -> list[Late]:
        """Orders of the tenant that wait longer than usual, the longest wait first, at most so many.

        Of the oldest `MOST_STORIES` that are under way: which of them are late only their stories tell.
        """
        over = await self._rows(OVER, {"most": LEARNED_FROM})
        asked = {"tenant": tenant, "least": LEAST_SECONDS, "most": MOST_STORIES, "closings": CLOSINGS}
        rows = await self._rows(OPEN, asked)
        stories = [Story(row["order_id"], row["tenant"], row["status"], _entries(row["story"])) for row in rows]
        steps = usual(_entries(row["story"]) for row in over)
        return late(stories, steps, datetime.now(UTC))[:most]

    async def lane_count(self) -> int | None:
        """How many lanes the services have; None before the timeline has taken its first. Raises `Unavailable`."""
        [row] = await self._rows(REMEMBERED, {})
        count: int | None = row["lanes"]
        return count

    async def heads(self) -> Heads:
        """How far each lane is told."""
        rows = await self._rows(_HEADS, {"counted": [*_SPEAKERS, _RETRIED]})
        return Heads(rows[0]["view"], {row["partition"]: row["head"] for row in rows if row["partition"] is not None})

    async def told(self, since: Mapping[int, int], most: int) -> list[Told]:
        """What was told in these lanes after these ordinals, of each lane the next `most` facts."""
        return await self._told(since, most=most)

    async def told_to(self, tenant: str, customer: str, since: Mapping[int, int], window: int | None) -> list[Told]:
        """Of that customer's orders: what was told in these lanes after these ordinals, and `window` ordinals on.

        One question of a customer at a time, so that nobody's many streams keep others waiting.
        """
        turn = self._turns.setdefault((tenant, customer), asyncio.Lock())
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS) as wait, turn, self._catching_up:
                wait.reschedule(None)
                return await self._told(since, window or _FOR_EVER, tenant=tenant, customer=customer)
        except TimeoutError:
            raise Unavailable("Many streams are just taken up again; this one has its turn later.") from None

    async def told_of(self, order_id: str, tenant: str, customer: str) -> list[Told]:
        """All that was told of an order, if it is that customer's."""
        rows = await self._rows(_TOLD_OF, {"order_id": order_id, "tenant": tenant, "customer": customer})
        return [Told(**{**row, "lane": int(row["lane"])}) for row in rows]

    async def _told(self, since: Mapping[int, int], window: int = _FOR_EVER, **some: Any) -> list[Told]:
        until = [ordinal + window for ordinal in since.values()]
        lanes = {"lanes": [str(lane) for lane in since], "above": list(since.values()), "until": until}
        rows = await self._rows(_TOLD, {**dict.fromkeys(("tenant", "customer", "most")), **lanes, **some})
        return [Told(**{**row, "lane": int(row["lane"])}) for row in rows]

    async def stock(self, tenant: str, sku: str) -> Stock | None:
        """What is on the shelf. Never below zero, though the sum may be for a moment (see streams/timeline)."""
        row = await self._row(_SHELF, {"item": item_key(tenant, sku)})
        return None if row is None else _stock(sku, row)

    async def price(self, tenant: str, sku: str) -> Price | None:
        """What one piece costs."""
        row = await self._row(_TAG, {"item": item_key(tenant, sku)})
        return None if row is None else Price(sku=sku, **_shown(row))

    async def reading(self, name: Name) -> Reading | None:
        """The same, as it may be kept."""
        shown: Order | Stock | Price
        touches: tuple[Name, ...] = ()
        if name.kind == ORDER:
            order_id, tenant, customer = name.which
            row = await self._row(_STORY, {"order_id": order_id, "tenant": tenant, "customer": customer})
            if row is None:
                return None
            shown = order = _order(row)
            touches = tuple(Name(STOCK, (tenant, sku)) for sku in dict.fromkeys(line.sku for line in order.lines))
        else:
            tenant, sku = name.which
            row = await self._row(_SHELF if name.kind == STOCK else _TAG, {"item": item_key(tenant, sku)})
            if row is None:
                return None
            shown = _stock(sku, row) if name.kind == STOCK else Price(sku=sku, **_shown(row))
        return Reading(shown.model_dump_json().encode(), version_of(row["snapshot"]), row["mark"], touches)

    async def marks(self, kind: str, names: Iterable[Name]) -> tuple[str, dict[Name, str]]:
        """How these are now, each by a word that changes with it, and the version of this reading."""
        which = {name: name.which[0] if kind == ORDER else item_key(*name.which) for name in names}
        row = await self._row(_MARKED.format(_MARKS[kind]), {"which": list(which.values())})
        assert row is not None
        marks = row["marks"]
        return version_of(row["snapshot"]), {name: marks[each] for name, each in which.items() if each in marks}

    async def reachable(self) -> None:
        """Raises when the database does not answer or was not migrated."""
        await self._pool.ask(lambda connection: connection.execute("SELECT 1 FROM stories LIMIT 1"))

    async def _row(self, query: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        rows = await self._rows(query, values)
        return rows[0] if rows else None

    async def _rows(self, query: str, values: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        async def ask(connection: AsyncConnection[dict[str, Any]]) -> Sequence[dict[str, Any]]:
            return await (await connection.execute(query.encode(), values)).fetchall()

        try:
            return await self._pool.ask(ask)
        except psycopg.Error as error:
            logger().warning("timeline_away", error=repr(error))
            raise Unavailable("Orders, stock and prices cannot be read for now; what was accepted goes on.") from error


def _order(row: Mapping[str, Any]) -> Order:
    found = Order.model_validate(row)
    said_at = {entry.id: entry.at for entry in found.story}
    for entry in found.story:
        if entry.cause in said_at:
            # Speakers' clocks differ: an answer may be stamped before its question.
            entry.took_seconds = max(0.0, (entry.at - said_at[entry.cause]).total_seconds())
    found.due = [Due(**each._asdict()) for each in due(found.story)]
    return found


def _stock(sku: str, row: Mapping[str, Any]) -> Stock:
    return Stock(sku=sku, **{name: max(0, count) for name, count in _shown(row).items()})


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("mark", "snapshot")}
