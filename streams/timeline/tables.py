"""The timeline's tables: one column for each field of the states in model.py."""

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

stories = Table(
    "stories",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("customer", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("lines", JSONB, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("placed_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
    Column("settled_at", DateTime(timezone=True)),
    Column("length", Integer, nullable=False),
)
# A customer's orders, newest first, page by page: (placed_at, order_id) is the cursor.
Index("stories_of_customer", stories.c.tenant, stories.c.customer, stories.c.placed_at.desc(), stories.c.order_id)

# What may be overdue, and of what is learned how long is usual. No column in them changes with every fact, so that the
# rows are still updated in their place (HOT).
Index("stories_placed", stories.c.placed_at, postgresql_where=text("status = 'placed'"))
Index("stories_settled", stories.c.settled_at, postgresql_where=stories.c.settled_at.is_not(None))

entries = Table(
    "entries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("fact", Text, nullable=False),
    Column("speaker", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("cause", Text, nullable=False),
    Column("correlation", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
)
Index("entries_of_order", entries.c.order_id, entries.c.ordinal)
# What was heard since, lane by lane: an id is speaker/lane/sequence.
Index("entries_of_lane", text("split_part(id, '/'::text, 2)"), entries.c.ordinal)

shelves = Table(
    "shelves",
    metadata,
    Column("item", Text, primary_key=True),
    Column("available", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("dispatched", BigInteger, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    Column("item", Text, primary_key=True),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", Text, nullable=False),
)
