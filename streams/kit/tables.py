"""The kit's own tables, in every service's database: how far each lane has heard, and what it has yet to say.

`lanes` has one row a partition; its size is that of the number of speakers, for ever. `outbox` has one row a batch.
"""

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, Table, text
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
)

outbox = Table(
    "outbox",
    kit_tables,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("said_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("facts", LargeBinary, nullable=False, comment="MessagePack of the records to append, in order"),
)
