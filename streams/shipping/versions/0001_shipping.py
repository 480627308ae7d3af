"""Parcels."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "shipping_0001"
down_revision = None
branch_labels = ("shipping",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shipments",
        sa.Column("order_id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("ship_to", JSONB),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("reference", sa.Text),
    )


def downgrade() -> None:
    op.drop_table("shipments")
