"""How long a command lived at first, for when it is requeued more than once."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Keep it. For what was requeued before, what is left of its last life counts as the first."""

    op.add_column("commands", sa.Column("life_ms", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Forget it."""

    op.drop_column("commands", "life_ms")
