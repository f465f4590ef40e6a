"""Commands and their steps, what SIMs have used, alarms, operators' keys and the tokens that were revoked."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make them."""

    op.create_table(
        "alarms",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("alarm_type", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("sim_slot", sa.Integer(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("acknowledged_by", sa.String(length=128), nullable=True),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    op.create_index("ix_alarms_cleared_at", "alarms", ["cleared_at"], unique=False)
    op.create_index("ix_alarms_device_id_id", "alarms", ["device_id", "id"], unique=False)
    op.create_table(
        "command_steps",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.String(length=128), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command_steps")),
    )
    op.create_index("ix_command_steps_message_id_id", "command_steps", ["message_id", "id"], unique=False)
    op.create_table(
        "commands",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("device_id", sa.String(length=128), nullable=True),
        sa.Column("device_group", sa.String(length=128), nullable=True),
        sa.Column("scope", sa.JSON(), nullable=True),
        sa.Column("sim_slot", sa.Integer(), nullable=True),
        sa.Column("any_device", sa.Boolean(), nullable=False),
        sa.Column("any_sim", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("phone_number", sa.String(length=32), nullable=True),
        sa.Column("session_id", sa.String(length=128), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("segments", sa.Integer(), nullable=True),
        sa.Column("delivery_report", sa.Boolean(), nullable=False),
        sa.Column("retry_safe", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempts_before", sa.Integer(), nullable=False),
        sa.Column("last_report", sa.String(length=128), nullable=True),
        sa.Column("not_before", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("dispatched_at", sa.BigInteger(), nullable=True),
        sa.Column("final_at", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.String(length=64), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
        sa.UniqueConstraint("message_id", name=op.f("uq_commands_message_id")),
    )
    op.create_index(
        "ix_commands_deadline_at",
        "commands",
        ["deadline_at"],
        unique=False,
        sqlite_where=sa.text("deadline_at IS NOT NULL"),
        postgresql_where=sa.text("deadline_at IS NOT NULL"),
    )
    op.create_index("ix_commands_device_id_id", "commands", ["device_id", "id"], unique=False)
    op.create_index(
        "ix_commands_open",
        "commands",
        ["device_id", "priority"],
        unique=False,
        sqlite_where=sa.text("final_at IS NULL"),
        postgresql_where=sa.text("final_at IS NULL"),
    )
    op.create_index("ix_commands_state_id", "commands", ["state", "id"], unique=False)
    op.create_table(
        "revoked_tokens",
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_revoked_tokens")),
    )
    op.create_index("ix_revoked_tokens_revoked_at", "revoked_tokens", ["revoked_at"], unique=False)
    op.create_table(
        "sim_recipients",
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("month", sa.String(length=16), nullable=False),
        sa.Column("phone_number", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "slot", "month", "phone_number", name=op.f("pk_sim_recipients")),
    )
    op.create_table(
        "sims",
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.String(length=16), nullable=False),
        sa.Column("day_used", sa.Integer(), nullable=False),
        sa.Column("month", sa.String(length=16), nullable=False),
        sa.Column("month_used", sa.Integer(), nullable=False),
        sa.Column("recipients", sa.Integer(), nullable=False),
        sa.Column("last_sent_at", sa.BigInteger(), nullable=True),
        sa.Column("balance", sa.String(length=32), nullable=True),
        sa.Column("balance_at", sa.BigInteger(), nullable=True),
        sa.Column("parked_until", sa.BigInteger(), nullable=True),
        sa.Column("parked_reason", sa.String(length=64), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("disabled_reason", sa.String(length=64), nullable=True),
        sa.Column("subscriber", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", "slot", name=op.f("pk_sims")),
    )
    op.add_column("credentials", sa.Column("role", sa.String(length=16), nullable=True))
    op.add_column("credentials", sa.Column("scope", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop them."""

    op.drop_column("credentials", "scope")
    op.drop_column("credentials", "role")
    op.drop_table("sims")
    op.drop_table("sim_recipients")
    op.drop_index("ix_revoked_tokens_revoked_at", table_name="revoked_tokens")
    op.drop_table("revoked_tokens")
    op.drop_index("ix_commands_state_id", table_name="commands")
    op.drop_index(
        "ix_commands_open", table_name="commands", sqlite_where=sa.text("final_at IS NULL"), postgresql_where=sa.text("final_at IS NULL")
    )
    op.drop_index("ix_commands_device_id_id", table_name="commands")
    op.drop_index(
        "ix_commands_deadline_at",
        table_name="commands",
        sqlite_where=sa.text("deadline_at IS NOT NULL"),
        postgresql_where=sa.text("deadline_at IS NOT NULL"),
    )
    op.drop_table("commands")
    op.drop_index("ix_command_steps_message_id_id", table_name="command_steps")
    op.drop_table("command_steps")
    op.drop_index("ix_alarms_device_id_id", table_name="alarms")
    op.drop_index("ix_alarms_cleared_at", table_name="alarms")
    op.drop_table("alarms")
