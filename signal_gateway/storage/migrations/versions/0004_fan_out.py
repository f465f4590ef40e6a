"""Which commands were asked for at once, for every phone of a group."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Keep it. Commands of before stand alone."""

    op.add_column("commands", sa.Column("fan_out_id", sa.String(length=128), nullable=True))
    op.create_index(
        "ix_commands_fan_out_id",
        "commands",
        ["fan_out_id"],
        unique=False,
        sqlite_where=sa.text("fan_out_id IS NOT NULL"),
        postgresql_where=sa.text("fan_out_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Forget it."""

    op.drop_index(
        "ix_commands_fan_out_id",
        table_name="commands",
        sqlite_where=sa.text("fan_out_id IS NOT NULL"),
        postgresql_where=sa.text("fan_out_id IS NOT NULL"),
    )
    op.drop_column("commands", "fan_out_id")
