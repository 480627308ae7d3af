"""Parked records."""

import sqlalchemy as sa
from alembic import op

revision = "kit_0002"
down_revision = "kit_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parked",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, nullable=False, comment="of the record: what it is about"),
        sa.Column("holds", sa.Boolean, nullable=False, comment="later records of the key wait behind it"),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("log_offset", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("retry_at", sa.DateTime(timezone=True), comment="when it is tried next; none: when somebody asks"),
        sa.Column("delivery", sa.LargeBinary, nullable=False, comment="MessagePack of the record and its envelope"),
    )
    op.create_index("parked_by_key", "parked", ["partition", "key", "number"])
    op.create_index(
        "parked_to_retry", "parked", ["partition", "retry_at"], postgresql_where=sa.text("retry_at IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_table("parked")
