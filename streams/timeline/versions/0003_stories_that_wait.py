"""Stories that are under way, and those that ended last, without a look at all others."""

import sqlalchemy as sa
from alembic import op

revision = "timeline_0003"
down_revision = "timeline_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("stories_placed", "stories", ["placed_at"], postgresql_where=sa.text("status = 'placed'"))
    op.create_index("stories_settled", "stories", ["settled_at"], postgresql_where=sa.text("settled_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_index("stories_settled")
    op.drop_index("stories_placed")
