"""Orders and prices."""

import sqlalchemy as sa
from alembic import op

revision = "orders_0001"
down_revision = None
branch_labels = ("orders",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("cancellation_refused", sa.Boolean, nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True)),
    )
    op.create_index("orders_due", "orders", ["partition", "due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_table(
        "prices",
        sa.Column("item", sa.Text, primary_key=True),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text),
        sa.Column("request_id", sa.Text),
    )


def downgrade() -> None:
    op.drop_table("prices")
    op.drop_table("orders")
