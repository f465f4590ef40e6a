"""Deleting what is old, a few rows at a time: each step is a short transaction, so that nobody waits for it."""

from collections.abc import Callable, Mapping

from sqlalchemy import ColumnElement, Connection, Table, delete, select

from signal_gateway.storage.tables import (
    alarms,
    audit,
    command_steps,
    commands,
    connection_logs,
    reports,
    revoked_tokens,
    sim_recipients,
)

Condition = Callable[[int], ColumnElement[bool]]


def delete_some(connection: Connection, kind: str, before_ms: int, rows_max: int) -> int:
    """Delete up to `rows_max` rows of a kind that are older than `before_ms`. Returns how many; fewer than asked: that was all."""
    if kind == "commands":
        return _delete_commands(connection, before_ms, rows_max)
    table, is_old = _KINDS[kind]
    key = next(iter(table.primary_key))
    old = select(key).where(is_old(before_ms)).order_by(key).limit(rows_max)
    return connection.execute(delete(table).where(key.in_(old.scalar_subquery()))).rowcount


def delete_recipients(connection: Connection, before_month: str) -> int:
    """Forget whom SIMs sent to in months before this one (`2026-01`): nothing counts them any more."""
    return connection.execute(delete(sim_recipients).where(sim_recipients.c.month < before_month)).rowcount


def _delete_commands(connection: Connection, before_ms: int, rows_max: int) -> int:
    """Commands that ended, with their timelines. An open one stays, however old it is."""
    query = select(commands.c.message_id).where(commands.c.final_at < before_ms).order_by(commands.c.id).limit(rows_max)
    ids = list(connection.scalars(query))
    if ids:
        connection.execute(delete(command_steps).where(command_steps.c.message_id.in_(ids)))
        connection.execute(delete(commands).where(commands.c.message_id.in_(ids)))
    return len(ids)


_KINDS: Mapping[str, tuple[Table, Condition]] = {
    "heartbeats": (reports, lambda before: (reports.c.type == "heartbeat") & (reports.c.received_at < before)),
    "reports": (reports, lambda before: (reports.c.type != "heartbeat") & (reports.c.received_at < before)),
    "connections": (connection_logs, lambda before: connection_logs.c.disconnected_at < before),
    "audit": (audit, lambda before: audit.c.at < before),
    "alarms": (alarms, lambda before: alarms.c.cleared_at < before),
    "tokens": (revoked_tokens, lambda before: revoked_tokens.c.expires_at < before),
}

KINDS = (*_KINDS, "commands")
"""What can be deleted by age."""
