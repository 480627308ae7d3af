"""Which versions of the service have run, and what each says and hears."""

import sqlalchemy as sa
from alembic import op

revision = "kit_0005"
down_revision = "kit_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "announced",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("document", sa.JSON, nullable=False, comment="what it says, hears and remembers"),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
    )


def downgrade() -> None:
    op.drop_table("announced")
