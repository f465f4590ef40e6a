"""Every table. Times are milliseconds since 1970, UTC, as big integers: the same on SQLite and PostgreSQL.

`devices` is the one identity of phones, agents and whatever else has a link (C-45): a string id outside, an integer key inside.
A migration in `migrations/versions` makes each change here; a test compares the two.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows only in an INTEGER key, PostgreSQL wants eight bytes.
RowId = BigInteger().with_variant(Integer, "sqlite")

credentials = Table(
    "credentials",
    metadata,
    Column("id", String(64), primary_key=True),  # the public part of sgk_<id>_<secret>
    Column("kind", String(16), nullable=False),  # enrolment | client | device
    Column("digest", LargeBinary(32), nullable=False),  # HMAC-SHA256 of the whole key under the pepper
    Column("label", String(128), nullable=False, default=""),
    Column("client_id", String(128)),  # of a client or device key: the one id it is good for
    Column("device_group", String(128)),  # of an enrolment key: the group its devices join
    Column("max_devices", Integer),  # of an enrolment key; NULL = no limit
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # bars new devices of an enrolment key; ends a client or device key
    Column("revoked_at", BigInteger),
    Index("ix_credentials_revoked_at", "revoked_at"),
    Index("ix_credentials_client_id", "client_id"),
)

devices = Table(
    "devices",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("device_id", String(128), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # phone | agent
    Column("device_group", String(128)),
    Column("sitename", String(128)),
    Column("queue_name", String(255)),
    Column("credential_id", String(64)),  # the enrolment key it is bound to (C-34); "config:<name>" for keys of config.toml
    Column("manufacturer", String(128)),
    Column("model", String(128)),
    Column("info", JSON),  # Device-Info as it was sent
    Column("settings", JSON),  # what differs from the defaults of PhoneSettings
    Column("settings_version", Integer, nullable=False, default=1),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("ix_devices_credential_id", "credential_id"),
    Index("ix_devices_device_group", "device_group"),
)

registrations = Table(
    "registrations",
    metadata,
    Column("device_id", String(128), primary_key=True),  # the client_id of REGISTER
    Column("token_digest", LargeBinary(32), nullable=False),
    Column("credential_id", String(64)),  # the stored or configured key that the token is, if it is one
    Column("room_id", String(128)),
    Column("capabilities", JSON, nullable=False),
    Column("metadata", JSON),
    Column("version", String(32), nullable=False),
    Column("status", String(16), nullable=False),  # active | inactive | suspended | pending (C-16)
    Column("registered_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger),
    Index("ix_registrations_credential_id", "credential_id"),
)

device_status = Table(
    "device_status",
    metadata,
    Column("device_id", String(128), primary_key=True),
    Column("linked", Boolean, nullable=False, default=False),
    Column("last_activity_at", BigInteger),
    Column("reported", String(16)),
    Column("battery_level", Integer),
    Column("battery_status", String(32)),
    Column("signal_strength", Integer),
    Column("signal_dbm", Integer),
    Column("network_type", String(32)),
    Column("sim_cards", JSON),
    Column("latitude", Float),
    Column("longitude", Float),
    Column("updated_at", BigInteger, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("device_id", String(128), nullable=False),
    Column("type", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    Column("message_id", String(128)),
    Column("reported_at", BigInteger),
    Column("received_at", BigInteger, nullable=False),
    Index("ix_reports_device_id_type_received_at", "device_id", "type", "received_at"),
    Index("ix_reports_type_received_at", "type", "received_at"),
    Index("ix_reports_received_at", "received_at"),
)

connection_logs = Table(
    "connection_logs",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("device_id", String(128), nullable=False),
    Column("socket_id", String(36), nullable=False, unique=True),  # the session id of the link
    Column("client_type", String(16), nullable=False),  # phone | agent | console
    Column("address", String(64)),
    Column("connected_at", BigInteger, nullable=False),
    Column("disconnected_at", BigInteger),
    Column("duration_seconds", Float),
    Column("close_code", Integer),
    Column("reason", String(128)),
    Index("ix_connection_logs_device_id_connected_at", "device_id", "connected_at"),
    Index("ix_connection_logs_connected_at", "connected_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),  # a client id, "cli", or "server"
    Column("action", String(64), nullable=False),  # register | unregister | enrol | key_create | key_revoke | ...
    Column("subject", String(128), nullable=False),
    Column("outcome", String(32), nullable=False),  # ok, or the stable reason of the refusal
    Column("address", String(64)),
    Column("detail", Text),
    Index("ix_audit_at", "at"),
    Index("ix_audit_subject_at", "subject", "at"),
)
