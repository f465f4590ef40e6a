"""An index of the keys that end, by their time: they are looked for every second."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

ENDS = sa.text("expires_at IS NOT NULL")


def upgrade() -> None:
    """Make it."""

    op.create_index("ix_credentials_expires_at", "credentials", ["expires_at"], unique=False, sqlite_where=ENDS, postgresql_where=ENDS)


def downgrade() -> None:
    """Drop it."""

    op.drop_index("ix_credentials_expires_at", table_name="credentials", sqlite_where=ENDS, postgresql_where=ENDS)
