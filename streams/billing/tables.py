"""The table of billing: a column for every field of the row in `model`, and no other."""

from sqlalchemy import BigInteger, Column, MetaData, Table, Text

metadata = MetaData()

invoices = Table(
    "invoices",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text),
    Column("method", Text),
    Column("reference", Text),
)
