"""By which sessions a member sat in a room before its last one: a lost link and a takeover begin another."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Keep them. Those of before were not kept."""

    op.create_table(
        "room_sessions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("stay_id", sa.String(length=36), nullable=False),
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_room_sessions")),
    )
    op.create_index("ix_room_sessions_session_id", "room_sessions", ["session_id"])
    op.create_index("ix_room_sessions_ended_at", "room_sessions", ["ended_at"])


def downgrade() -> None:
    """Forget them."""

    op.drop_index("ix_room_sessions_ended_at", table_name="room_sessions")
    op.drop_index("ix_room_sessions_session_id", table_name="room_sessions")
    op.drop_table("room_sessions")
