"""The tables of orders: a column for every field of the rows in `model`, and no other."""

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, MetaData, Table, Text

metadata = MetaData()

orders = Table(
    "orders",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text),
    Column("cancellation_refused", Boolean, nullable=False),
    Column("due_at", DateTime(timezone=True)),
)

# Only open orders have a deadline, so the index stays as small as they are few.
Index("orders_due", orders.c.partition, orders.c.due_at, postgresql_where=orders.c.due_at.is_not(None))

prices = Table(
    "prices",
    metadata,
    Column("item", Text, primary_key=True),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text),
    Column("request_id", Text),
    Column("as_of", DateTime(timezone=True)),
)
