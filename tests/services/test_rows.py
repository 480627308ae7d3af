"""Every row of every service comes back from its real table as it went in: as JSON, by the names of its fields."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import psycopg
import pytest

from streams.billing.model import Invoice
from streams.billing.model import Status as InvoiceStatus
from streams.inventory.events import StockLine
from streams.inventory.model import Kind, Movement, Reservation, Stock
from streams.inventory.model import Status as ReservationStatus
from streams.kit.events import State
from streams.kit.migrations import migrate
from streams.orders.model import Order, Price
from streams.orders.model import Status as OrderStatus
from streams.shipping.events import Address
from streams.shipping.model import Shipment
from streams.shipping.model import Status as ShipmentStatus

BIG = 2**62
ADDRESS = Address(recipient='Ada "L"', street="Straße 1\\2", postal_code="10115", city="東京", country="DE")
ROWS: dict[str, list[State]] = {
    "orders": [
        Order.new("o1", 3),
        Order(
            order_id="o2",
            partition=3,
            tenant="shop",
            status=OrderStatus.CANCELLED,
            reason="DEADLINE",
            amount_minor=BIG,
            currency="EUR",
            cancellation_refused=True,
            due_at=datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC),
        ),
        Price.new("shop/lamp"),
        Price(item="shop/a/b", amount_minor=BIG, currency="EUR", request_id="r1"),
    ],
    "inventory": [
        Reservation.new("o1"),
        Reservation(
            order_id="o2",
            tenant="shop",
            status=ReservationStatus.RESERVED,
            lines=(StockLine(sku="lamp", quantity=2), StockLine(sku="bulb", quantity=BIG)),
        ),
        Stock.new("shop/lamp"),
        Stock(item="shop/bulb", on_hand=-3, reserved=4, dispatched=BIG, received=BIG, adjusted=1),
        Movement.new("shop/lamp/r1"),
        Movement(movement="shop/lamp/r2", item="shop/lamp", kind=Kind.ADJUSTED, quantity=-5, reason="broken"),
    ],
    "billing": [
        Invoice.new("o1"),
        Invoice(
            order_id="o2",
            tenant="shop",
            status=InvoiceStatus.CAPTURED,
            amount_minor=BIG,
            currency="EUR",
            method="card-ok",
            reference="ref-1",
        ),
    ],
    "shipping": [
        Shipment.new("o1"),
        Shipment(
            order_id="o2", tenant="shop", status=ShipmentStatus.BOOKED, ship_to=ADDRESS, items=5, reference="ref-1"
        ),
    ],
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_come_back_as_they_went_in(name: str, empty: Callable[[str], str]) -> None:
    url = empty(name)
    migrate(name, url)
    with psycopg.connect(url) as connection:
        for row in ROWS[name]:
            table = type(row).table
            save = f"INSERT INTO {table} SELECT * FROM json_populate_recordset(null::{table}, %s)"
            load = f"SELECT json_agg(t)::text FROM {table} t WHERE {type(row).key} = %s"
            connection.execute(save.encode(), [msgspec.json.encode([row]).decode()])
            (found,) = connection.execute(load.encode(), [row.row_key]).fetchone() or (None,)
            assert msgspec.json.decode(found, type=tuple[type(row)]) == (row,)  # type: ignore[misc]
