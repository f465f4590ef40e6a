"""Indexes of open commands in which a device's queue stands in its order, and what is scheduled by its time."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

OPEN, SCHEDULED = sa.text("final_at IS NULL"), sa.text("final_at IS NULL AND not_before IS NOT NULL")


def upgrade() -> None:
    """Without them SQLite read every queued command of the fleet to find those of one device."""

    op.drop_index("ix_commands_open", table_name="commands", sqlite_where=OPEN, postgresql_where=OPEN)
    order = ["device_id", "state", sa.text("priority DESC"), "id"]
    op.create_index("ix_commands_open", "commands", order, unique=False, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index(
        "ix_commands_not_before", "commands", ["device_id", "not_before"], unique=False, sqlite_where=SCHEDULED, postgresql_where=SCHEDULED
    )


def downgrade() -> None:
    """As before."""

    op.drop_index("ix_commands_not_before", table_name="commands", sqlite_where=SCHEDULED, postgresql_where=SCHEDULED)
    op.drop_index("ix_commands_open", table_name="commands", sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_commands_open", "commands", ["device_id", "priority"], unique=False, sqlite_where=OPEN, postgresql_where=OPEN)
