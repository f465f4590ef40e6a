"""Every table. Times are milliseconds since 1970, UTC, as big integers: the same on SQLite and PostgreSQL.

`devices` is the one identity of phones, agents and whatever else has a link (C-45): a string id outside, an integer key inside.
A migration in `migrations/versions` makes each change here; a test compares the two.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text, text

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
    Column("kind", String(16), nullable=False),  # enrolment | client | device | operator
    Column("digest", LargeBinary(32), nullable=False),  # HMAC-SHA256 of the whole key under the pepper
    Column("label", String(128), nullable=False, default=""),
    Column("client_id", String(128)),  # of a client or device key: the one id it is good for
    Column("device_group", String(128)),  # of an enrolment key: the group its devices join
    Column("role", String(16)),  # of an operator key: viewer | operator | admin
    Column("scope", JSON),  # of an operator key: {"devices": [...], "groups": [...]}; NULL = the whole fleet
    Column("max_devices", Integer),  # of an enrolment key; NULL = no limit
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # bars new devices of an enrolment key; ends a client or device key
    Column("revoked_at", BigInteger),
    Column("used_at", BigInteger),  # of a device key: when its phone first came with it; from then on no enrolment key opens a link for it
    Index("ix_credentials_revoked_at", "revoked_at"),
    Index("ix_credentials_client_id", "client_id"),
    Index(
        "ix_credentials_expires_at",
        "expires_at",
        sqlite_where=text("expires_at IS NOT NULL"),
        postgresql_where=text("expires_at IS NOT NULL"),
    ),
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
    Index("ix_reports_device_id_id", "device_id", "id"),
    Index("ix_reports_type_id", "type", "id"),
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

commands = Table(
    "commands",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # in the order of acceptance; made before it is written
    Column("message_id", String(128), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # one of CommandKind
    Column("state", String(16), nullable=False),  # one of CommandState
    Column("device_id", String(128)),  # NULL until a phone was chosen
    Column("device_group", String(128)),  # of a command for any phone of a group
    Column("scope", JSON),  # of a command for any phone: those of its operator; NULL = the whole fleet
    Column("sim_slot", Integer),  # NULL until one was chosen
    Column("any_device", Boolean, nullable=False),  # whether each attempt may choose another phone
    Column("any_sim", Boolean, nullable=False),  # and another SIM
    Column("priority", Integer, nullable=False),  # higher goes first
    Column("phone_number", String(32)),  # whom it goes to, in E.164
    Column("session_id", String(128)),  # of USSD
    Column("data", JSON, nullable=False),  # what the device is told
    Column("segments", Integer),  # parts of an SMS
    Column("delivery_report", Boolean, nullable=False),
    Column("retry_safe", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),  # dispatched so often
    Column("attempts_before", Integer, nullable=False),  # of these, before it was last requeued by an operator
    Column("last_report", String(128)),  # the id of the report that changed it last: the same one again changes nothing
    Column("not_before", BigInteger),
    Column("expires_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger),  # of the state it is in; NULL when that is final
    Column("digest", LargeBinary(32), nullable=False),  # of what was asked: the same id with another is a conflict
    Column("created_by", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("dispatched_at", BigInteger),
    Column("final_at", BigInteger),
    Column("error", String(64)),  # stable word
    Column("error_message", Text),
    Column("result", JSON),
    Column("life_ms", BigInteger),  # how long it lived at first; NULL until it is requeued
    Column("fan_out_id", String(128)),  # of a command for every phone of a group: the message_id of the first of them
    Column("key_id", String(36)),  # of one that was asked for under an Idempotency-Key: made of that and of its operator
    Index("ix_commands_device_id_id", "device_id", "id"),
    Index(
        "ix_commands_not_before",
        "device_id",
        "not_before",
        sqlite_where=text("final_at IS NULL AND not_before IS NOT NULL"),
        postgresql_where=text("final_at IS NULL AND not_before IS NOT NULL"),
    ),
    Index("ix_commands_state_id", "state", "id"),
    Index(
        "ix_commands_deadline_at",
        "deadline_at",
        sqlite_where=text("deadline_at IS NOT NULL"),
        postgresql_where=text("deadline_at IS NOT NULL"),
    ),
    Index(
        "ix_commands_fan_out_id",
        "fan_out_id",
        sqlite_where=text("fan_out_id IS NOT NULL"),
        postgresql_where=text("fan_out_id IS NOT NULL"),
    ),
    Index(
        "ix_commands_key_id",
        "key_id",
        sqlite_where=text("key_id IS NOT NULL"),
        postgresql_where=text("key_id IS NOT NULL"),
    ),
)

Index(  # the queue of a device in its order
    "ix_commands_open",
    commands.c.device_id,
    commands.c.state,
    commands.c.priority.desc(),
    commands.c.id,
    sqlite_where=text("final_at IS NULL"),
    postgresql_where=text("final_at IS NULL"),
)

command_steps = Table(
    "command_steps",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("message_id", String(128), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("detail", JSON),
    Index("ix_command_steps_message_id_id", "message_id", "id"),
)

sims = Table(
    "sims",
    metadata,
    Column("device_id", String(128), primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("day", String(16), nullable=False),  # which daily window `day_used` counts
    Column("day_used", Integer, nullable=False),
    Column("month", String(16), nullable=False),
    Column("month_used", Integer, nullable=False),
    Column("recipients", Integer, nullable=False),  # distinct numbers of this month
    Column("last_sent_at", BigInteger),
    Column("balance", String(32)),  # decimal, in the currency of the SIM
    Column("balance_at", BigInteger),
    Column("parked_until", BigInteger),
    Column("parked_reason", String(64)),
    Column("failures", Integer, nullable=False),  # of its carrier, in a row
    Column("disabled_reason", String(64)),  # until an operator enables it again
    Column("subscriber", JSON),  # digests of IMEI and IMSI, to see that they changed
)

sim_recipients = Table(
    "sim_recipients",
    metadata,
    Column("device_id", String(128), primary_key=True),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("month", String(16), primary_key=True),
    Column("phone_number", String(32), primary_key=True),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("device_id", String(128), nullable=False),
    Column("alarm_type", String(32), nullable=False),
    Column("severity", String(16), nullable=False),  # warning | error | critical
    Column("sim_slot", Integer),
    Column("message", Text, nullable=False),
    Column("source", String(16), nullable=False),  # server | device
    Column("occurrences", Integer, nullable=False),
    Column("raised_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("acknowledged_at", BigInteger),
    Column("acknowledged_by", String(128)),
    Column("cleared_at", BigInteger),
    Index("ix_alarms_device_id_id", "device_id", "id"),
    Index("ix_alarms_cleared_at", "cleared_at"),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("token_id", String(64), primary_key=True),  # the jti of the token
    Column("subject", String(128), nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # of the token: the row may go then
    Index("ix_revoked_tokens_revoked_at", "revoked_at"),
)

rooms = Table(
    "rooms",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("room_id", String(36), nullable=False, unique=True),
    Column("app_id", String(64), nullable=False),  # of the media backend: "p2p"
    Column("state", String(16), nullable=False),  # one of RoomState
    Column("creation_type", String(16), nullable=False),  # client | operator
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("sender_client_id", String(128)),
    Column("session_id", String(64)),  # of its sender
    Column("stays", Integer, nullable=False),  # how many there were
    Column("metadata", JSON),
    Column("ended_at", BigInteger),
    Column("ended_reason", String(32)),
    Column("ended_by", String(128)),
    Column("banned", JSON),  # ids of clients that an operator keeps out, whether they ever sat there or not
    Index("ix_rooms_state_created_at", "state", "created_at"),
    Index("ix_rooms_created_at", "created_at"),
    Index("ix_rooms_ended_at", "ended_at"),
)

room_members = Table(
    "room_members",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("stay_id", String(36), nullable=False, unique=True),
    Column("room_id", String(36), nullable=False),
    Column("client_id", String(128), nullable=False),
    Column("role", String(16), nullable=False),  # sender | receiver
    Column("session_id", String(64), nullable=False),
    Column("joined_at", BigInteger, nullable=False),
    Column("last_activity_at", BigInteger),
    Column("left_at", BigInteger),
    Column("left_reason", String(128)),
    Column("left_by", String(128)),
    Column("final_status", String(24)),  # one of Leaving
    Column("metadata", JSON),
    Index("ix_room_members_room_id_left_at", "room_id", "left_at"),
    Index("ix_room_members_client_id_joined_at", "client_id", "joined_at"),
    Index("ix_room_members_session_id", "session_id"),
    Index("ix_room_members_left_at", "left_at"),
)

room_sessions = Table(
    "room_sessions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("stay_id", String(36), nullable=False),
    Column("session_id", String(64), nullable=False),  # by which it lasted before the one in room_members
    Column("ended_at", BigInteger, nullable=False),
    Index("ix_room_sessions_session_id", "session_id"),
    Index("ix_room_sessions_ended_at", "ended_at"),
)
