"""Entries lane by lane, in the order in which they were heard: so a gateway follows them."""

import sqlalchemy as sa
from alembic import op

revision = "timeline_0002"
down_revision = "timeline_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("entries_of_lane", "entries", [sa.text("split_part(id, '/'::text, 2)"), "ordinal"])


def downgrade() -> None:
    op.drop_index("entries_of_lane")
