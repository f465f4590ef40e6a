"""Keys on disk: only their digests. Times are milliseconds since 1970, UTC."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, exists, func, insert, select, update

from signal_gateway.domain.access import Role, scope_of, scope_values
from signal_gateway.domain.credential import Credential, CredentialKind
from signal_gateway.storage.prepared import PreparedLookUp, PreparedQuery
from signal_gateway.storage.records import AuditEntry, write_audit
from signal_gateway.storage.tables import credentials

COLUMNS = tuple(credentials.c[name] for name in Credential.__dataclass_fields__)

_IS_REVOKED = credentials.c.revoked_at.is_not(None)
_BY_ID = PreparedLookUp(select(*COLUMNS), credentials.c.id)
_used = credentials.alias("used")
_MARK = PreparedQuery(select(func.count(), func.coalesce(func.sum(credentials.c.revoked_at), 0)).where(_IS_REVOKED))
_REVOKED = select(credentials.c.id).where(_IS_REVOKED)
_ENDED = PreparedQuery(
    select(credentials.c.id).where(
        credentials.c.kind != CredentialKind.ENROLMENT.value,
        credentials.c.expires_at > bindparam("after_ms"),
        credentials.c.expires_at <= bindparam("until_ms"),
    )
)


@dataclass(frozen=True, slots=True)
class Endings:
    """Which keys have ended. `mark` changes with every revocation, whatever the clocks of the revokers say."""

    mark: tuple[int, int]
    """How many keys are revoked, and the sum of when."""
    revoked: frozenset[str]
    expired: frozenset[str]
    """Those that ended by time since the last look."""


def credential_of(row: Any) -> Credential | None:
    """The credential out of a row that begins with COLUMNS; None where an outer join found none."""
    if row[0] is None:
        return None
    key_id, kind, digest, *rest, role, scope = row[: len(COLUMNS)]
    credential = Credential(key_id, CredentialKind(kind), bytes(digest), *rest)
    return credential if role is None else replace(credential, role=Role(role), scope=scope_of(scope))


def keep(connection: Connection, credential: Credential) -> None:
    """Write a new key."""
    values = {column.name: getattr(credential, column.name) for column in COLUMNS if column is not credentials.c.scope}
    if (scope := scope_values(credential.scope)) is not None:
        values["scope"] = scope
    connection.execute(insert(credentials).values(values))


def create(connection: Connection, credential: Credential, actor: str) -> None:
    """Write a new key, and in the audit trail who made it."""
    keep(connection, credential)
    detail = f"{credential.kind.value} key"
    write_audit(connection, AuditEntry(credential.created_at, actor, "key_create", credential.id, "ok", detail=detail))


def find(connection: Connection, credential_id: str) -> Credential | None:
    """One key, live or not."""
    rows = _BY_ID.rows(connection, [(credential_id,)])
    return credential_of(rows[0]) if rows else None


def find_all(connection: Connection) -> list[Credential]:
    """Every key, newest first."""
    rows = connection.execute(select(*COLUMNS).order_by(credentials.c.created_at.desc(), credentials.c.id))
    return [found for row in rows if (found := credential_of(row)) is not None]


def revoke(connection: Connection, credential_id: str, actor: str, now_ms: int) -> bool:
    """Make a key worthless, and write in the audit trail who did. False when there is no such key, or it is revoked already."""
    live = and_(credentials.c.id == credential_id, credentials.c.revoked_at.is_(None))
    revoked = connection.execute(update(credentials).where(live).values(revoked_at=now_ms)).rowcount == 1
    write_audit(connection, AuditEntry(now_ms, actor, "key_revoke", credential_id, "ok" if revoked else "not_found"))
    return revoked


def find_endings(connection: Connection, known: Endings, after_ms: int, until_ms: int) -> Endings:
    """Which keys have ended, given what was known before; client and device keys end at `after_ms < expires_at <= until_ms`.

    The ids of the revoked are read only when the mark has moved.
    """
    ((count, total),) = _MARK.rows(connection)
    mark = (int(count), int(total))
    revoked = known.revoked
    if mark != known.mark:
        revoked = frozenset(connection.scalars(_REVOKED))
    ended = _ENDED.rows(connection, after_ms=after_ms, until_ms=until_ms)
    return Endings(mark, revoked, frozenset(credential_id for (credential_id,) in ended))


def keep_device_key(connection: Connection, credential: Credential) -> None:
    """Write the own key of a device. Its first live key stays good until this one is first used; others, never used, are dropped.

    So a phone that missed the answer is not locked out, and one that asks again and again does not fill the table.
    The newer key has the later `created_at`, however fast they follow each other.
    """
    live = _live_keys(CredentialKind.DEVICE, credential.client_id)
    in_order = select(credentials.c.id, credentials.c.created_at).where(live).order_by(credentials.c.created_at)
    oldest = connection.execute(in_order.limit(1)).first()
    if oldest is not None:
        connection.execute(delete(credentials).where(live, credentials.c.id != oldest.id))
        credential = replace(credential, created_at=max(credential.created_at, oldest.created_at + 1))
    create(connection, credential, actor=credential.client_id or "")


def settle_keys(connection: Connection, credential_id: str, now_ms: int) -> list[str]:
    """A device or client came with a key of its own: revoke those that it replaces. Returns their ids.

    These are the older ones; and at the first use of a device key every other one, for whoever else was given one by the enrolment key
    may not be that phone.
    """
    credential = find(connection, credential_id)
    if credential is None:
        return []
    is_first_use = credential.kind is CredentialKind.DEVICE and credential.used_at is None
    replaced = and_(
        _live_keys(credential.kind, credential.client_id),
        credentials.c.id != credential_id if is_first_use else credentials.c.created_at < credential.created_at,
    )
    if is_first_use:
        connection.execute(update(credentials).where(credentials.c.id == credential_id).values(used_at=now_ms))
    ids = list(connection.scalars(select(credentials.c.id).where(replaced)))
    for replaced_id in ids:
        revoke(connection, replaced_id, credential.client_id or "", now_ms)
    return ids


def has_used_key(device_id: Any) -> Any:
    """The condition that a phone has come with a key of its own which is not revoked: then no enrolment key speaks for it (W-31).

    That such a key has expired changes nothing: whoever may revoke it decides.
    """
    used = _used.c
    return exists().where(
        used.client_id == device_id, used.kind == CredentialKind.DEVICE.value, used.revoked_at.is_(None), used.used_at > 0
    )


def _live_keys(kind: CredentialKind, client_id: str | None) -> Any:
    return and_(
        credentials.c.client_id == client_id,
        credentials.c.kind == kind.value,
        credentials.c.revoked_at.is_(None),
    )
