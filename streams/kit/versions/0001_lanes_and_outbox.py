"""The kit's tables: lanes and outbox, and the function that moves lanes under their epochs."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "kit_0001"
down_revision = None
branch_labels = ("kit",)
depends_on = None

MOVE_LANES = """
CREATE FUNCTION move_lanes(moved json) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    stale text;
BEGIN
    -- Locked in order, so that two owners that move the same lanes wait for each other instead of deadlocking.
    PERFORM FROM lanes
        WHERE partition IN (SELECT m.partition FROM json_populate_recordset(null::lanes, moved) m)
        ORDER BY partition FOR UPDATE;
    SELECT string_agg(m.partition::text, ',') INTO stale
        FROM json_populate_recordset(null::lanes, moved) m
        LEFT JOIN lanes l USING (partition)
        WHERE l.epoch IS DISTINCT FROM m.epoch;
    IF stale IS NOT NULL THEN
        RAISE EXCEPTION 'stale epoch of partitions %', stale USING ERRCODE = 'PV001', DETAIL = stale;
    END IF;
    UPDATE lanes l
        SET positions = m.positions, clock = m.clock, outbox_row = m.outbox_row, acknowledged = m.acknowledged
        FROM json_populate_recordset(null::lanes, moved) m
        WHERE l.partition = m.partition AND m.positions IS NOT NULL;
END $$
"""


def upgrade() -> None:
    zero, empty = sa.text("0"), sa.text("'{}'")
    op.create_table(
        "lanes",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        _column("partition_count", sa.Integer, "of every topic, when the lane was first taken"),
        _column("epoch", sa.BigInteger, "raised by each owner; earlier ones cannot commit"),
        _column("positions", JSONB, "next offset to read, by topic", empty),
        _column("clock", JSONB, "last sequence known, by speaker", empty),
        _column("outbox_row", sa.BigInteger, "number of the last outbox row", zero),
        _column("acknowledged", sa.BigInteger, "last outbox row in the log", zero),
    )
    op.create_table(
        "outbox",
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("facts", sa.LargeBinary, nullable=False, comment="MessagePack of the records to append, in order"),
    )
    op.execute(MOVE_LANES)


def _column(name: str, kind: Any, comment: str, default: Any = None) -> "sa.Column[Any]":
    return sa.Column(name, kind, nullable=False, server_default=default, comment=comment)


def downgrade() -> None:
    op.execute("DROP FUNCTION move_lanes(json)")
    op.drop_table("outbox")
    op.drop_table("lanes")
