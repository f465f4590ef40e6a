"""Under which Idempotency-Key a command was asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

KEYED = sa.text("key_id IS NOT NULL")


def upgrade() -> None:
    """Keep it. Commands of before are known by the ids that were made of their keys."""

    op.add_column("commands", sa.Column("key_id", sa.String(length=36), nullable=True))
    op.create_index("ix_commands_key_id", "commands", ["key_id"], unique=False, sqlite_where=KEYED, postgresql_where=KEYED)


def downgrade() -> None:
    """Forget it."""

    op.drop_index("ix_commands_key_id", table_name="commands", sqlite_where=KEYED, postgresql_where=KEYED)
    op.drop_column("commands", "key_id")
