"""When a phone first came with its own key."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Keep it. For keys that were used before it is the next time."""

    op.add_column("credentials", sa.Column("used_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Forget it."""

    op.drop_column("credentials", "used_at")
