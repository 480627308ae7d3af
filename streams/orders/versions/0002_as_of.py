"""As of when an item has its price."""

import sqlalchemy as sa
from alembic import op

revision = "orders_0002"
down_revision = "orders_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("prices", sa.Column("as_of", sa.DateTime(timezone=True)))


def downgrade() -> None:
    op.drop_column("prices", "as_of")
