"""The archive of rooms: a row for each, and one for each stay."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make it."""

    op.create_table(
        "rooms",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("room_id", sa.String(length=36), nullable=False),
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("creation_type", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("sender_client_id", sa.String(length=128), nullable=True),
        sa.Column("session_id", sa.String(length=64), nullable=True),
        sa.Column("stays", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_reason", sa.String(length=32), nullable=True),
        sa.Column("ended_by", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rooms")),
        sa.UniqueConstraint("room_id", name=op.f("uq_rooms_room_id")),
    )
    op.create_index("ix_rooms_state_created_at", "rooms", ["state", "created_at"])
    op.create_index("ix_rooms_created_at", "rooms", ["created_at"])
    op.create_index("ix_rooms_ended_at", "rooms", ["ended_at"])
    op.create_table(
        "room_members",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("stay_id", sa.String(length=36), nullable=False),
        sa.Column("room_id", sa.String(length=36), nullable=False),
        sa.Column("client_id", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=False),
        sa.Column("last_activity_at", sa.BigInteger(), nullable=True),
        sa.Column("left_at", sa.BigInteger(), nullable=True),
        sa.Column("left_reason", sa.String(length=128), nullable=True),
        sa.Column("left_by", sa.String(length=128), nullable=True),
        sa.Column("final_status", sa.String(length=24), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_room_members")),
        sa.UniqueConstraint("stay_id", name=op.f("uq_room_members_stay_id")),
    )
    op.create_index("ix_room_members_room_id_left_at", "room_members", ["room_id", "left_at"])
    op.create_index("ix_room_members_client_id_joined_at", "room_members", ["client_id", "joined_at"])
    op.create_index("ix_room_members_session_id", "room_members", ["session_id"])
    op.create_index("ix_room_members_left_at", "room_members", ["left_at"])


def downgrade() -> None:
    """Drop it."""

    for name in ("left_at", "session_id", "client_id_joined_at", "room_id_left_at"):
        op.drop_index(f"ix_room_members_{name}", table_name="room_members")
    op.drop_table("room_members")
    for name in ("ended_at", "created_at", "state_created_at"):
        op.drop_index(f"ix_rooms_{name}", table_name="rooms")
    op.drop_table("rooms")
