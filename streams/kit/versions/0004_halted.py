"""Why a lane is halted, for operators to see and to decide."""

import sqlalchemy as sa
from alembic import op

revision = "kit_0004"
down_revision = "kit_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lanes", sa.Column("halted", sa.Text, comment="why its owner does not go on; none: it does"))


def downgrade() -> None:
    op.drop_column("lanes", "halted")
