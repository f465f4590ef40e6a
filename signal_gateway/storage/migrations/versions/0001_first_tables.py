"""The first tables: keys, devices, registrations, statuses, reports, connections, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them all."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_index("ix_audit_subject_at", "audit", ["subject", "at"], unique=False)
    op.create_table(
        "connection_logs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("socket_id", sa.String(length=36), nullable=False),
        sa.Column("client_type", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("connected_at", sa.BigInteger(), nullable=False),
        sa.Column("disconnected_at", sa.BigInteger(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("close_code", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_logs")),
        sa.UniqueConstraint("socket_id", name=op.f("uq_connection_logs_socket_id")),
    )
    op.create_index("ix_connection_logs_connected_at", "connection_logs", ["connected_at"], unique=False)
    op.create_index("ix_connection_logs_device_id_connected_at", "connection_logs", ["device_id", "connected_at"], unique=False)
    op.create_table(
        "credentials",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=False),
        sa.Column("client_id", sa.String(length=128), nullable=True),
        sa.Column("device_group", sa.String(length=128), nullable=True),
        sa.Column("max_devices", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
    )
    op.create_index("ix_credentials_client_id", "credentials", ["client_id"], unique=False)
    op.create_index("ix_credentials_revoked_at", "credentials", ["revoked_at"], unique=False)
    op.create_table(
        "device_status",
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("linked", sa.Boolean(), nullable=False),
        sa.Column("last_activity_at", sa.BigInteger(), nullable=True),
        sa.Column("reported", sa.String(length=16), nullable=True),
        sa.Column("battery_level", sa.Integer(), nullable=True),
        sa.Column("battery_status", sa.String(length=32), nullable=True),
        sa.Column("signal_strength", sa.Integer(), nullable=True),
        sa.Column("signal_dbm", sa.Integer(), nullable=True),
        sa.Column("network_type", sa.String(length=32), nullable=True),
        sa.Column("sim_cards", sa.JSON(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device_status")),
    )
    op.create_table(
        "devices",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("device_group", sa.String(length=128), nullable=True),
        sa.Column("sitename", sa.String(length=128), nullable=True),
        sa.Column("queue_name", sa.String(length=255), nullable=True),
        sa.Column("credential_id", sa.String(length=64), nullable=True),
        sa.Column("manufacturer", sa.String(length=128), nullable=True),
        sa.Column("model", sa.String(length=128), nullable=True),
        sa.Column("info", sa.JSON(), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=True),
        sa.Column("settings_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        sa.UniqueConstraint("device_id", name=op.f("uq_devices_device_id")),
    )
    op.create_index("ix_devices_credential_id", "devices", ["credential_id"], unique=False)
    op.create_index("ix_devices_device_group", "devices", ["device_group"], unique=False)
    op.create_table(
        "registrations",
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("credential_id", sa.String(length=64), nullable=True),
        sa.Column("room_id", sa.String(length=128), nullable=True),
        sa.Column("capabilities", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_registrations")),
    )
    op.create_index("ix_registrations_credential_id", "registrations", ["credential_id"], unique=False)
    op.create_table(
        "reports",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("message_id", sa.String(length=128), nullable=True),
        sa.Column("reported_at", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    op.create_index("ix_reports_device_id_type_received_at", "reports", ["device_id", "type", "received_at"], unique=False)
    op.create_index("ix_reports_received_at", "reports", ["received_at"], unique=False)
    op.create_index("ix_reports_type_received_at", "reports", ["type", "received_at"], unique=False)


def downgrade() -> None:
    """Drop them all."""
    op.drop_index("ix_reports_type_received_at", table_name="reports")
    op.drop_index("ix_reports_received_at", table_name="reports")
    op.drop_index("ix_reports_device_id_type_received_at", table_name="reports")
    op.drop_table("reports")
    op.drop_index("ix_registrations_credential_id", table_name="registrations")
    op.drop_table("registrations")
    op.drop_index("ix_devices_device_group", table_name="devices")
    op.drop_index("ix_devices_credential_id", table_name="devices")
    op.drop_table("devices")
    op.drop_table("device_status")
    op.drop_index("ix_credentials_revoked_at", table_name="credentials")
    op.drop_index("ix_credentials_client_id", table_name="credentials")
    op.drop_table("credentials")
    op.drop_index("ix_connection_logs_device_id_connected_at", table_name="connection_logs")
    op.drop_index("ix_connection_logs_connected_at", table_name="connection_logs")
    op.drop_table("connection_logs")
    op.drop_index("ix_audit_subject_at", table_name="audit")
    op.drop_index("ix_audit_at", table_name="audit")
    op.drop_table("audit")
