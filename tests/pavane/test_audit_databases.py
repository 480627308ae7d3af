"""How the audit reads databases, told without one: what it asks, in which order, and whom it names when it cannot."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pavane.audit import EvidenceMissing, databases
from pavane.audit.databases import open_snapshot, read_world
from pavane.audit.world import Charge
from pavane.lanes.skipping import SKIP
from pavane.rebuild.restoring import RESTORE
from streams.billing.model import Invoice
from streams.kit.run import find

WORLD = {"PAVANE_DATABASE_WORLD": "postgresql://world"}
OWN_PROVIDER, OWN_CARRIER = {"PAVANE_PAYMENT_PROVIDER": "http://provider"}, {"PAVANE_CARRIER": "http://carrier"}
Rows = Iterable[tuple[Any, ...]]


class Database:
    """Stands for a connection, and for its cursors: what it is asked, it answers by `answer`."""

    def __init__(self, answer: Callable[[str, Sequence[Any]], Rows]) -> None:
        self._answer = answer
        self._rows: Rows = ()
        self.asked: list[str] = []

    def execute(self, query: str | sql.Composable, values: Sequence[Any] = ()) -> "Database":
        self.asked.append(query if isinstance(query, str) else query.as_string(None))
        self._rows = self._answer(self.asked[-1], values)
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(iter(self._rows), None)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)

    def cursor(self, name: str) -> "Database":
        return self

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Give each URL its database; the settings of the connections, once they are made."""

    def connect_to(**named: Database) -> dict[str, Any]:
        settings: dict[str, Any] = {}

        def connect(url: str, **given: Any) -> Database:
            settings[url] = given
            return named[url.removeprefix("postgresql://")]

        monkeypatch.setattr(psycopg, "connect", connect)
        return settings

    return connect_to


# -- the world -------------------------------------------------------------------------------------------------------


def simulated(*tables: str) -> Database:
    """The world's database, in which these tables are."""

    def answer(query: str, values: Sequence[Any]) -> Rows:
        if "to_regclass" in query:
            return [(values[0] in tables,)]
        return [("payment/o", "o", "captured", 500, "EUR", 1)] if query == databases.CHARGES else []

    return Database(answer)


def test_the_simulators_records_are_read_and_nothing_is_absent(connecting: Callable[..., dict[str, Any]]):
    connecting(world=simulated("payments", "bookings"))

    assert read_world(WORLD) == ({"o": [Charge("payment/o", "o", "captured", 500, "EUR", 1)]}, {}, ())


def test_with_a_provider_and_a_carrier_of_ones_own_no_database_of_the_world_is_needed():
    world = read_world({**OWN_PROVIDER, **OWN_CARRIER})

    assert world[:2] == (None, None)
    assert [what.partition(":")[0] for what in world.absent] == [
        "the provider's records are not at hand (PAVANE_PAYMENT_PROVIDER names one of your own)",
        "the carrier's records are not at hand (PAVANE_CARRIER names one of your own)",
    ]


def test_what_a_simulator_had_recorded_before_there_was_a_provider_is_not_taken_for_the_providers(
    connecting: Callable[..., dict[str, Any]],
):
    connecting(world=simulated("payments", "bookings"))

    assert read_world({**WORLD, **OWN_PROVIDER})[:2] == (None, {})


def test_a_simulator_without_a_table_was_asked_for_nothing_yet(connecting: Callable[..., dict[str, Any]]):
    """So an order that it should have been asked for is named, also where the database is the wrong one."""
    connecting(world=simulated("payments"))

    world = read_world(WORLD)

    assert (world.charges is None, world.parcels, world.absent) == (False, {}, ())


def test_the_decisions_asked_for_are_those_that_operators_make():
    assert all(f"'{what}'" in databases.DECISIONS for what in (SKIP, RESTORE))


# -- a service's database --------------------------------------------------------------------------------------------

BILLING, ORDERS = find("billing"), find("orders")
BOTH = {"PAVANE_DATABASE_BILLING": "postgresql://billing", "PAVANE_DATABASE_ORDERS": "postgresql://orders"}


def nothing(query: str, values: Sequence[Any]) -> Rows:
    return ()


def test_the_lanes_are_locked_before_anything_is_looked_at(connecting: Callable[..., dict[str, Any]]):
    billing = Database(nothing)
    connecting(billing=billing)

    with ExitStack() as stack:
        open_snapshot(stack, BILLING, BOTH)

    assert billing.asked[:2] == ["LOCK TABLE lanes IN ACCESS SHARE MODE", databases.LANES]


def test_a_database_that_waits_while_others_are_read_is_not_hung_up_on(connecting: Callable[..., dict[str, Any]]):
    settings = connecting(billing=Database(nothing))

    with ExitStack() as stack:
        open_snapshot(stack, BILLING, BOTH)

    assert "-c idle_in_transaction_session_timeout=0" in settings["postgresql://billing"]["options"]


def test_a_database_that_goes_away_while_its_rows_are_read_is_the_one_that_is_named(
    connecting: Callable[..., dict[str, Any]],
):
    def going_away(query: str, values: Sequence[Any]) -> Rows:
        if "invoices" in query:
            raise psycopg.OperationalError("the connection is lost")
        return ()

    connecting(billing=Database(going_away), orders=Database(nothing))

    named = "PAVANE_DATABASE_BILLING names cannot be read: the connection is lost"
    with pytest.raises(EvidenceMissing, match=named), ExitStack() as stack:
        billing = open_snapshot(stack, BILLING, BOTH)
        open_snapshot(stack, ORDERS, BOTH)
        list(billing.documents(Invoice))
