"""The tables of inventory: a column for every field of the rows in `model`, and no other."""

from sqlalchemy import BigInteger, CheckConstraint, Column, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

reservations = Table(
    "reservations",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("lines", JSONB, nullable=False),
)

stock = Table(
    "stock",
    metadata,
    Column("item", Text, primary_key=True),
    Column("on_hand", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("dispatched", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("adjusted", BigInteger, nullable=False),
    # Not that nothing is below zero: a rebuild may fold an order's partition before the receipt's.
    CheckConstraint("received + adjusted = on_hand + reserved + dispatched", name="stock_balances"),
)

movements = Table(
    "movements",
    metadata,
    Column("movement", Text, primary_key=True),
    Column("item", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("reason", Text),
)
