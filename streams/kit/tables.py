"""The kit's own tables, in every service's database: how far each lane has heard, what it has yet to say, what waits.

`lanes` has one row a partition; its size is that of the number of speakers, for ever. `outbox` has one row a batch.
`parked` has one row a record that could not be handled, or that waits behind one; normally none. `operations` has one
row a redrive, discard or skip that somebody asked for; rows are never deleted. `announced` has one row a version of the
service that ever ran.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

kit_tables = MetaData()

lanes = Table(
    "lanes",
    kit_tables,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("partition_count", Integer, nullable=False, comment="of every topic, when the lane was first taken"),
    Column("epoch", BigInteger, nullable=False, comment="raised by each owner; earlier ones cannot commit"),
    Column("positions", JSONB, nullable=False, server_default=text("'{}'"), comment="next offset to read, by topic"),
    Column("clock", JSONB, nullable=False, server_default=text("'{}'"), comment="last sequence known, by speaker"),
    Column("outbox_row", BigInteger, nullable=False, server_default=text("0"), comment="number of the last outbox row"),
    Column("acknowledged", BigInteger, nullable=False, server_default=text("0"), comment="last outbox row in the log"),
    Column("halted", Text, comment="why its owner does not go on; none: it does"),
)

outbox = Table(
    "outbox",
    kit_tables,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("said_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("facts", LargeBinary, nullable=False, comment="MessagePack of the records to append, in order"),
)

parked = Table(
    "parked",
    kit_tables,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False, comment="of the record: what it is about"),
    Column("holds", Boolean, nullable=False, comment="later records of the key wait behind it"),
    Column("topic", Text, nullable=False),
    Column("log_offset", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("parked_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("retry_at", DateTime(timezone=True), comment="when it is tried next; none: when somebody asks"),
    Column("delivery", LargeBinary, nullable=False, comment="MessagePack of the record and its envelope"),
)
Index("parked_by_key", parked.c.partition, parked.c.key, parked.c.number)
Index("parked_to_retry", parked.c.partition, parked.c.retry_at, postgresql_where=parked.c.retry_at.is_not(None))

operations = Table(
    "operations",
    kit_tables,
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("begun_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("ended_at", DateTime(timezone=True), comment="none: under way, or cut off before it could say"),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False, comment="redrive or discard"),
    Column("items", JSONB, nullable=False, comment="ids of the parked records that it was about"),
    Column("subject", Text, nullable=False, comment="the same in words: filters, or the record's origin"),
    Column("why", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)

announced = Table(
    "announced",
    kit_tables,
    Column("version", Text, primary_key=True),
    # Not binary: schemas keep the order of their words.
    Column("document", JSON, nullable=False, comment="what it says, hears and remembers"),
    Column("first_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("last_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)
