"""Reading databases for the audit: every one in a read-only transaction that sees a single moment.

Long tables are streamed: a snapshot stays open until its rows were asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, LiteralString, NamedTuple

import msgspec
import psycopg
from psycopg import Connection, IsolationLevel, sql

from pavane.audit.errors import EvidenceMissing
from pavane.audit.snapshot import Clocks, Parked, Snapshot
from pavane.audit.world import Charge, Parcel, World
from streams.billing.provider import ADDRESS as PROVIDER_ADDRESS
from streams.kit import run
from streams.kit.counting import REMEMBERED
from streams.kit.events import State
from streams.kit.lane import Holding
from streams.kit.log import ToSay
from streams.kit.service import Service
from streams.shipping.carrier import ADDRESS as CARRIER_ADDRESS

CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 120
ROWS_AT_ONCE = 2_000
DATABASE = "PAVANE_DATABASE_"
#: One database is idle while others, or the log, are read.
OPTIONS = f"-c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s -c idle_in_transaction_session_timeout=0 -c jit=off"

_facts = msgspec.msgpack.Decoder(list[ToSay])
_cursors = count(1)
Opened = Connection[tuple[Any, ...]]

LOCK: LiteralString = "LOCK TABLE lanes IN ACCESS SHARE MODE"
LANES: LiteralString = "SELECT partition, epoch, positions, clock, outbox_row, acknowledged FROM lanes"
UNSAID: LiteralString = (
    "SELECT o.partition, o.facts FROM outbox o JOIN lanes l USING (partition) WHERE o.number > l.acknowledged "
    "ORDER BY o.partition, o.number"
)
PARKED: LiteralString = (
    "SELECT partition, number, key, holds, topic, log_offset, reason, message, retry_at FROM parked "
    "ORDER BY partition, number"
)
#: Those of `pavane lanes skip` and `pavane log restore`.
DECISIONS: LiteralString = "SELECT items FROM operations WHERE what IN ('skip', 'log restore') ORDER BY number"
CHARGES: LiteralString = (
    "SELECT p.key, p.order_id, p.status, p.amount_minor, p.currency, coalesce(c.times, 0)::int FROM payments p "
    "LEFT JOIN (SELECT key, count(*) AS times FROM payment_calls "
    "WHERE verb = 'CapturePayment' AND outcome = 'Captured' AND changed GROUP BY key) c USING (key)"
)
PARCELS: LiteralString = (
    "SELECT b.key, b.order_id, b.status, b.items, coalesce(c.times, 0)::int FROM bookings b "
    "LEFT JOIN (SELECT key, count(*) AS times FROM booking_calls "
    "WHERE verb = 'BookShipment' AND outcome = 'Booked' AND changed GROUP BY key) c USING (key)"
)


@contextmanager
def reading(name: str, environment: Mapping[str, str]) -> Iterator[Opened]:
    """A connection in a transaction that only reads, as of its first statement, for as long as it takes. Raises
    `EvidenceMissing`."""
    variable = _variable(name)
    url = environment.get(variable)
    if not url:
        raise EvidenceMissing(f"{variable} (PostgreSQL URL of {name}) is not set, so its rows cannot be audited.")
    with _told(name):
        connecting = psycopg.connect(
            url, connect_timeout=CONNECT_TIMEOUT_SECONDS, options=OPTIONS, application_name="pavane-audit"
        )
        with closing(connecting) as connection:
            connection.read_only = True
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            yield connection


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Whatever goes wrong with the database is told under its name."""
    try:
        yield
    except psycopg.Error as error:
        why = str(error).strip()
        raise EvidenceMissing(f"The database that {_variable(name)} names cannot be read: {why}") from error


def _variable(name: str) -> str:
    return f"{DATABASE}{name.upper()}"


def lane_count(environment: Mapping[str, str]) -> int | None:
    """How many lanes the services' databases remember; None when none of those that can be read has any.

    Where they differ, the least: `pavane lanes settle` sets the others right.
    """
    found: set[int | None] = set()
    for name in run.services():
        with suppress(EvidenceMissing), reading(name, environment) as connection:
            found |= {count for (count,) in connection.execute(REMEMBERED)}
    return min((count for count in found if count is not None), default=None)


def open_snapshot(stack: ExitStack, service: Service, environment: Mapping[str, str]) -> Snapshot:
    """A service's database as it is now; it can be read until the stack is closed."""
    name = service.name
    connection = stack.enter_context(reading(name, environment))
    # A lock fixes no moment yet, the first look does. Whoever looked first while `pavane rebuild --swap` held the lanes
    # waited as of a moment before: it saw the clocks of then, and the tables of after.
    connection.execute(LOCK)
    lanes = {partition: Holding(*known) for partition, *known in connection.execute(LANES)}
    unsaid = [
        (partition, fact)
        for partition, facts in _streamed(name, connection, sql.SQL(UNSAID))
        for fact in _facts.decode(facts)
    ]
    parked = [Parked(*row) for row in _streamed(name, connection, sql.SQL(PARKED))]
    decisions = [items for (items,) in connection.execute(DECISIONS)]
    return Snapshot(service, lanes, unsaid, parked, partial(_documents, name, connection), decisions)


def clocks_now(service: Service, environment: Mapping[str, str]) -> Clocks:
    """What each lane of the service knows now."""
    with reading(service.name, environment) as connection:
        return dict(connection.execute("SELECT partition, clock FROM lanes").fetchall())


def read_world(environment: Mapping[str, str]) -> World:
    """What the provider and the carrier know now, as far as it is at hand: the simulators' records are. Of those of
    one's own nothing is."""
    absent: list[str] = []
    simulated: list[_Party] = []
    for party in (_PROVIDER, _CARRIER):
        if environment.get(party.address):
            absent.append(party.absent(f"{party.address} names one of your own"))
        else:
            simulated.append(party)
    found: dict[_Party, dict[str, list[Any]]] = {}
    if simulated:
        with reading("world", environment) as connection:
            for party in simulated:
                # Nobody was asked yet, then: nothing is known of any order.
                found[party] = _by_order(connection, party) if _exists(connection, party.table) else {}
    return World(found.get(_PROVIDER), found.get(_CARRIER), tuple(absent))


class _Party(NamedTuple):
    """Somebody outside: `address` is the variable that names one of one's own, which has no records here."""

    name: str
    address: str
    table: str
    query: LiteralString
    record: Callable[..., Any]

    def absent(self, why: str) -> str:
        return f"the {self.name}'s records are not at hand ({why}): what it did is not judged, compare its statement"


_PROVIDER = _Party("provider", PROVIDER_ADDRESS, "payments", CHARGES, Charge)
_CARRIER = _Party("carrier", CARRIER_ADDRESS, "bookings", PARCELS, Parcel)


def _exists(connection: Opened, table: str) -> bool:
    [exists] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone() or (False,)
    return bool(exists)


def _by_order(connection: Opened, party: _Party) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in _streamed("world", connection, sql.SQL(party.query)):
        record = party.record(*row)
        found.setdefault(record.order_id, []).append(record)
    return found


def _documents(name: str, connection: Opened, state: type[State]) -> Iterable[str]:
    query = sql.SQL("SELECT to_json(r)::text FROM {} r").format(sql.Identifier(state.table))
    return (document for (document,) in _streamed(name, connection, query))


def _streamed(name: str, connection: Opened, query: sql.SQL | sql.Composed) -> Iterator[tuple[Any, ...]]:
    """Rows a few thousand at a time, so that no table is in memory twice. Raises `EvidenceMissing` of its own: it is
    asked while other databases are open too."""
    with _told(name), connection.cursor(name=f"audit_{next(_cursors)}") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(query)
        yield from cursor
