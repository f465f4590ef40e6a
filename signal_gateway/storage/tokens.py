"""Tokens that were revoked before their time, on disk. Times are milliseconds since 1970, UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, insert, select

from signal_gateway.storage.prepared import PreparedQuery
from signal_gateway.storage.records import AuditEntry, write_audit
from signal_gateway.storage.tables import audit, revoked_tokens

ISSUED = "token_issue"
"""What the audit trail calls that a token was made."""

_MARK = PreparedQuery(select(func.count(), func.coalesce(func.sum(revoked_tokens.c.revoked_at), 0)).select_from(revoked_tokens))
_REVOKED = select(revoked_tokens.c.token_id, revoked_tokens.c.expires_at)


@dataclass(frozen=True, slots=True)
class RevokedTokens:
    """The ids of all revoked tokens, each with the time at which it would have ended. `mark` changes with every revocation."""

    mark: tuple[int, int] = (0, 0)
    until: Mapping[str, int] = field(default_factory=dict[str, int])


def revoke(connection: Connection, token_id: str, subject: str, expires_at: int, actor: str, now_ms: int) -> bool:
    """Revoke a token, and write in the audit trail who did. False when it was revoked before."""
    known = connection.scalar(select(revoked_tokens.c.token_id).where(revoked_tokens.c.token_id == token_id))
    if known is None:
        values = {"token_id": token_id, "subject": subject, "revoked_at": now_ms, "expires_at": expires_at}
        connection.execute(insert(revoked_tokens).values(values))
    outcome = "ok" if known is None else "revoked_before"
    write_audit(connection, AuditEntry(now_ms, actor, "token_revoke", token_id, outcome))
    return known is None


def was_issued(connection: Connection, token_id: str) -> bool:
    """Whether the audit trail tells that a token of this id was made."""
    return connection.scalar(select(audit.c.id).where(audit.c.subject == token_id, audit.c.action == ISSUED).limit(1)) is not None


def find_revoked(connection: Connection, known: RevokedTokens) -> RevokedTokens:
    """What is revoked now, given what was known before: the ids are read only when the mark has moved."""
    ((count, total),) = _MARK.rows(connection)
    mark = (int(count), int(total))
    if mark == known.mark:
        return known
    return RevokedTokens(mark, {row.token_id: row.expires_at for row in connection.execute(_REVOKED)})
