"""Who is kept out of a room, also those who never sat in it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Keep it. Bans of before are told by the stays that they ended."""

    op.add_column("rooms", sa.Column("banned", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Forget it."""

    op.drop_column("rooms", "banned")
