"""The table of shipping: a column for every field of the row in `model`, and no other."""

from sqlalchemy import Column, Integer, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

shipments = Table(
    "shipments",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("ship_to", JSONB),
    Column("items", Integer, nullable=False),
    Column("reference", Text),
)
