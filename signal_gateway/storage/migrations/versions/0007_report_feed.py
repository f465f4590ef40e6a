"""Indexes of reports in the order in which they were filed, of each device and of each type."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Who asks for what is new of one device or type had SQLite read all that ever was of it, and put it in order."""

    op.drop_index("ix_reports_device_id_type_received_at", table_name="reports")
    op.create_index("ix_reports_device_id_id", "reports", ["device_id", "id"], unique=False)
    op.create_index("ix_reports_type_id", "reports", ["type", "id"], unique=False)


def downgrade() -> None:
    """As before."""

    op.drop_index("ix_reports_type_id", table_name="reports")
    op.drop_index("ix_reports_device_id_id", table_name="reports")
    op.create_index("ix_reports_device_id_type_received_at", "reports", ["device_id", "type", "received_at"], unique=False)
