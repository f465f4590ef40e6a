"""Devices and client records on disk: who may come, who came first, who registered. Times are milliseconds since 1970, UTC."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Text, bindparam, cast, delete, func, insert, literal, select, update

from signal_gateway.domain.credential import Credential, CredentialKind
from signal_gateway.domain.device import DeviceDescription
from signal_gateway.domain.ids import is_guest_id
from signal_gateway.storage import credentials as stored_keys
from signal_gateway.storage.credentials import COLUMNS as KEY_COLUMNS
from signal_gateway.storage.engine import write_json
from signal_gateway.storage.prepared import PreparedLookUp, PreparedWrite
from signal_gateway.storage.rows import Update
from signal_gateway.storage.tables import credentials, device_status, devices, registrations

LABEL_CHARS = 128
QUEUE_NAME_CHARS = 255
VERSION_CHARS = 32
AGENT = "agent"
RESERVED = "reserved"
"""Why an id of guests is not brought in."""
HAS_OWN_KEY = "has_own_key"
"""Why an enrolment key does not speak for a phone any more."""
DESCRIPTION = ("device_group", "sitename", "queue_name", "manufacturer", "model")


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What is kept of a device (T-57). `info` and `settings` are JSON text: read only once the device is known to be who it says."""

    device_id: str
    kind: str
    credential_id: str | None
    """The key that brought it in, and that alone may bring it again (C-34)."""
    device_group: str | None
    sitename: str | None
    queue_name: str | None
    manufacturer: str | None
    model: str | None
    info: str | None
    settings: str | None

    def settings_changes(self) -> dict[str, Any]:
        """What differs from the settings of every phone."""
        return json.loads(self.settings) or {} if self.settings else {}


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """What a client said when it registered (S-35)."""

    device_id: str
    token_digest: bytes
    credential_id: str | None
    version: str
    capabilities: list[str]
    metadata: Mapping[str, Any] | None
    room_id: str | None


@dataclass(frozen=True, slots=True)
class Vouch:
    """By what right a token registers a client."""

    enrolled_by: Credential | None = None
    """The enrolment key that the token is: it may bring in new ones while it is neither full nor expired."""
    issued: bool = False
    """The token was issued for this very client, so a device of that id may exist already, whoever brought it in."""
    may_replace: bool = False
    """Issued, and the token behind the record on disk is worthless: the new one takes its place."""


@dataclass(frozen=True, slots=True)
class PhoneLogin:
    """All that one read tells about a phone at the door."""

    credential: Credential | None
    device: DeviceRecord | None
    older_device_keys: int
    """Live keys of the same device that are older than `credential`."""
    bound_group: str | None = None
    """The group of the enrolment key that brought the device in."""
    has_used_key: bool = False
    """Whether it has come with a key of its own, which is not revoked."""


@dataclass(frozen=True, slots=True)
class ClientLogin:
    """All that one read tells about an agent at the door."""

    credential: Credential | None
    """The stored key that the token would be."""
    token_digest: bytes | None
    """Of the client's record; None when there is none."""
    credential_id: str | None
    """The key behind the client's record."""
    holder: Credential | None
    """The same, when it is a stored key."""
    older_keys: int = 0
    """Live keys of the same client that are older than `credential`."""
    registered_at: int | None = None
    has_used_key: bool = False
    """Whether a phone of this id has come with a key of its own, which is not revoked."""


_DEVICE_COLUMNS = (
    *(devices.c[name] for name in ("device_id", "kind", "credential_id", *DESCRIPTION)),
    cast(devices.c.info, Text),
    cast(devices.c.settings, Text),
)
_older = credentials.alias("older")
_holders = credentials.alias("holders")
_nobody = select(literal(1).label("one")).subquery()


def _older_keys(kind: CredentialKind, client: str) -> Any:
    """How many live keys of this kind the client has that are older than the one it shows."""
    older = select(func.count()).where(
        _older.c.client_id == bindparam(client),
        _older.c.kind == kind.value,
        _older.c.revoked_at.is_(None),
        _older.c.created_at < credentials.c.created_at,
    )
    return older.correlate(credentials).scalar_subquery()


# One statement for every case: an unknown id costs the same as a wrong key (H04).
_PHONE_LOGIN = select(
    *KEY_COLUMNS,
    _older_keys(CredentialKind.DEVICE, "device"),
    _holders.c.device_group,
    stored_keys.has_used_key(bindparam("device")),
    *_DEVICE_COLUMNS,
).select_from(
    _nobody.outerjoin(credentials, credentials.c.id == bindparam("key"))
    .outerjoin(devices, devices.c.device_id == bindparam("device"))
    .outerjoin(_holders, _holders.c.id == devices.c.credential_id)
)
_CLIENT_LOGIN = select(
    *KEY_COLUMNS,
    registrations.c.token_digest,
    registrations.c.credential_id,
    *(_holders.c[column.name] for column in KEY_COLUMNS),
    _older_keys(CredentialKind.CLIENT, "client"),
    registrations.c.registered_at,
    stored_keys.has_used_key(bindparam("client")),
).select_from(
    _nobody.outerjoin(credentials, credentials.c.id == bindparam("key"))
    .outerjoin(registrations, registrations.c.device_id == bindparam("client"))
    .outerjoin(_holders, _holders.c.id == registrations.c.credential_id)
)
# Built once: to make one of these costs as much as to run it.
_DEVICE = PreparedLookUp(select(*_DEVICE_COLUMNS), devices.c.device_id)
_RECORD_DIGEST = PreparedLookUp(select(registrations.c.token_digest), registrations.c.device_id)
_INSERT_DEVICE = PreparedWrite(
    insert(devices).inline(),
    ("device_id", "kind", "credential_id", *DESCRIPTION, "info", "settings_version", "created_at", "updated_at"),
)
_SAID = ("token_digest", "credential_id", "room_id", "capabilities", "metadata", "version", "status", "last_seen_at")
"""What each REGISTER says anew."""
_INSERT_RECORD = PreparedWrite(insert(registrations).inline(), ("device_id", "registered_at", *_SAID))
_UPDATE_RECORD = PreparedWrite(update(registrations).where(registrations.c.device_id == bindparam("key_id")), _SAID)
_DEVICES_OF_KEY = select(func.count()).select_from(devices).where(devices.c.credential_id == bindparam("key"))
_HAS_USED_KEY = select(stored_keys.has_used_key(bindparam("device")))
_IS_KNOWN = select(
    select(devices.c.device_id).where(devices.c.device_id == bindparam("client")).exists()
    | select(registrations.c.device_id).where(registrations.c.device_id == bindparam("client")).exists()
)


def find_phone(connection: Connection, device_id: str, key_id: str) -> PhoneLogin:
    """A phone at the door, in one statement."""
    row = connection.execute(_PHONE_LOGIN, {"device": device_id, "key": key_id}).one()
    older, bound_group, has_used_key, *device = row[len(KEY_COLUMNS) :]
    record = None if device[0] is None else DeviceRecord(*device)
    return PhoneLogin(stored_keys.credential_of(row), record, older, bound_group, bool(has_used_key))


def find_client(connection: Connection, client_id: str, key_id: str) -> ClientLogin:
    """An agent at the door, in one statement."""
    row = connection.execute(_CLIENT_LOGIN, {"client": client_id, "key": key_id}).one()
    digest, credential_id, *rest = row[len(KEY_COLUMNS) :]
    holder = stored_keys.credential_of(rest)
    kept_digest = None if digest is None else bytes(digest)
    return ClientLogin(stored_keys.credential_of(row), kept_digest, credential_id, holder, rest[-3], rest[-2], bool(rest[-1]))


def find_device(connection: Connection, device_id: str) -> DeviceRecord | None:
    """One device."""
    rows = _DEVICE.rows(connection, [(device_id,)])
    return DeviceRecord(*rows[0]) if rows else None


def is_known(connection: Connection, client_id: str) -> bool:
    """Whether a device or a client's record has this id."""
    return bool(connection.scalar(_IS_KNOWN, {"client": client_id}))


def enrol(connection: Connection, record: DeviceRecord, credential: Credential | None, now_ms: int) -> str | None:
    """Bind a new device to the key it came with. Returns None, or the word why not: then nothing is written.

    Decides on what is on disk now, not on what the asker read before: of two keys that bring the same id at once, one wins,
    and of two devices that take the last place of a key, one. A new device has no id of guests, as which anybody with the link of a
    room could pass for it; one that has it from before this was so keeps it, and guests do not get it.
    """
    known = find_device(connection, record.device_id)
    if known is not None:
        if connection.scalar(_HAS_USED_KEY, {"device": record.device_id}):
            return HAS_OWN_KEY
        return None if known.credential_id == record.credential_id else "bound_elsewhere"
    if is_guest_id(record.device_id):
        return RESERVED
    if credential is not None and (refusal := _bars_new(connection, credential, now_ms)) is not None:
        return refusal
    values = _description_values(record)
    values |= {"device_id": record.device_id, "kind": record.kind, "credential_id": record.credential_id}
    _INSERT_DEVICE.run(connection, [{**values, "settings_version": 1, "created_at": now_ms, "updated_at": now_ms}])
    return None


def _bars_new(connection: Connection, credential: Credential, now_ms: int) -> str | None:
    """Why an enrolment key brings in nobody new. A key of the configuration is not in the table and is never barred here."""
    now = stored_keys.find(connection, credential.id) or credential
    if now.revoked_at is not None:
        return "revoked"
    if now.is_expired(now_ms):
        return "expired"
    if now.max_devices is None:
        return None
    count = connection.scalar(_DEVICES_OF_KEY, {"key": now.id}) or 0
    return "max_devices" if count >= now.max_devices else None


def described(record: DeviceRecord, description: DeviceDescription, info: Mapping[str, Any] | None) -> DeviceRecord:
    """The record after the device told of its make again. What it leaves out stays; `info` is Device-Info as it may be kept."""
    return replace(
        record,
        device_group=_clip(description.device_group) or record.device_group,
        sitename=_clip(description.sitename) or record.sitename,
        queue_name=_clip(description.queue_name, QUEUE_NAME_CHARS),
        manufacturer=_clip(description.manufacturer) or record.manufacturer,
        model=_clip(description.model) or record.model,
        info=record.info if info is None else write_json(info),  # as SQLite keeps it, so that the same is seen to be the same
    )


def new_device(device_id: str, kind: str, credential_id: str | None) -> DeviceRecord:
    """The record of a device that has said nothing of itself yet."""
    return DeviceRecord(device_id, kind, credential_id, None, None, None, None, None, None, None)


def description_row(record: DeviceRecord, now_ms: int) -> Update:
    """For the batch writer: the device described itself differently."""
    return Update(devices, {"device_id": record.device_id}, {**_description_values(record), "updated_at": now_ms})


def _description_values(record: DeviceRecord) -> dict[str, Any]:
    info = None if record.info is None else json.loads(record.info)
    return {**{name: getattr(record, name) for name in DESCRIPTION}, "info": info}


def register(connection: Connection, record: ClientRecord, vouch: Vouch, now_ms: int) -> str | None:
    """Write a client's record, its device with it. Returns None, or the word why not: then nothing is written."""
    kept = _RECORD_DIGEST.rows(connection, [(record.device_id,)])
    if not kept:
        refusal = _bring_in(connection, record, vouch, now_ms)
        if refusal is not None:
            return refusal
        _INSERT_RECORD.run(connection, [{"device_id": record.device_id, "registered_at": now_ms, **_record_values(record, now_ms)}])
        return None
    if bytes(kept[0][0]) != record.token_digest:
        if not vouch.may_replace:
            return "client_id_taken"
        mine = (devices.c.device_id == record.device_id) & (devices.c.kind == AGENT)
        connection.execute(update(devices).where(mine).values(credential_id=record.credential_id, updated_at=now_ms))
    _UPDATE_RECORD.run(connection, [{"key_id": record.device_id, **_record_values(record, now_ms)}])
    return None


def _bring_in(connection: Connection, record: ClientRecord, vouch: Vouch, now_ms: int) -> str | None:
    if vouch.issued and find_device(connection, record.device_id) is not None:
        return None
    return enrol(connection, new_device(record.device_id, AGENT, record.credential_id), vouch.enrolled_by, now_ms)


def _record_values(record: ClientRecord, now_ms: int) -> dict[str, Any]:
    return {
        "token_digest": record.token_digest,
        "credential_id": record.credential_id,
        "room_id": record.room_id,
        "capabilities": record.capabilities,
        "metadata": None if record.metadata is None else dict(record.metadata),
        "version": record.version[:VERSION_CHARS],
        "status": "active",
        "last_seen_at": now_ms,
    }


def find_registration(connection: Connection, client_id: str) -> ClientRecord | None:
    """One client's record."""
    row = connection.execute(select(registrations).where(registrations.c.device_id == client_id)).first()
    if row is None:
        return None
    return ClientRecord(row.device_id, bytes(row.token_digest), row.credential_id, row.version, row.capabilities, row.metadata, row.room_id)


def unregister(connection: Connection, client_id: str, token_digest: bytes) -> bool:
    """Delete a client's record, and the device that it made, so that the id and its place under the key are free again.

    False when there is no such record with this token any more. Reports and the connection log stay: they are history.
    """
    mine = (registrations.c.device_id == client_id) & (registrations.c.token_digest == token_digest)
    if connection.execute(delete(registrations).where(mine)).rowcount == 0:
        return False
    gone = connection.execute(delete(devices).where(devices.c.device_id == client_id, devices.c.kind == AGENT)).rowcount
    if gone:
        connection.execute(delete(device_status).where(device_status.c.device_id == client_id))
    return True


def _clip(text: str | None, chars: int = LABEL_CHARS) -> str | None:
    """What fits into its column: PostgreSQL refuses a longer text, and a label is no reason to refuse a device."""
    return None if text is None else text[:chars]
