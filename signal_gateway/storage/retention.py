"""Deleting what is old, a few rows at a time: each step is a short transaction, so that nobody waits for it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, delete, select, tuple_

from signal_gateway.storage.tables import (
    alarms,
    audit,
    command_steps,
    commands,
    connection_logs,
    device_status,
    reports,
    revoked_tokens,
    room_members,
    room_sessions,
    rooms,
    sim_recipients,
)

_IS_GUEST = (device_status.c.device_id >= "guest-") & (device_status.c.device_id < "guest.")
"""Guests of rooms, of whom nothing is kept but the status of their link, for a while."""

Condition = Callable[[int], ColumnElement[bool]]


def delete_some(kind: str, before_ms: int, connection: Connection, rows_max: int) -> int:
    """Delete up to `rows_max` rows of a kind that are older than `before_ms`. Returns how many; fewer than asked: that was all."""
    table, is_old, by_age = _KINDS[kind]
    key = next(iter(table.primary_key))
    old = select(key).where(is_old(before_ms)).order_by(by_age).limit(rows_max)
    return connection.execute(delete(table).where(key.in_(old.scalar_subquery()))).rowcount


def delete_recipients(before_month: str, connection: Connection, rows_max: int) -> int:
    """Forget up to so many of whom SIMs sent to in months before this one (`2026-01`): nothing counts them any more."""
    key = tuple_(*sim_recipients.primary_key)
    old = select(*sim_recipients.primary_key).where(sim_recipients.c.month < before_month).limit(rows_max)
    return connection.execute(delete(sim_recipients).where(key.in_(old))).rowcount


class Walk(NamedTuple):
    """How far a step came among the commands."""

    deleted: int
    last_id: int | None
    """Where the next step begins; None: there is nothing older."""


def delete_commands(before_ms: int, after_id: int, rows_max: int, connection: Connection) -> Walk:
    """Look at the next `rows_max` commands in the order of their acceptance; delete those that ended before, with their timelines.

    An open one stays, however old it is. There is no index of their ends: it would cost every command, and this walk costs none.
    """
    columns = commands.c
    query = select(columns.id, columns.message_id, columns.created_at, columns.final_at)
    rows = connection.execute(query.where(columns.id > after_id).order_by(columns.id).limit(rows_max)).all()
    ids = [row.message_id for row in rows if row.final_at is not None and row.final_at < before_ms]
    if ids:
        connection.execute(delete(command_steps).where(command_steps.c.message_id.in_(ids)))
        connection.execute(delete(commands).where(columns.message_id.in_(ids)))
    is_over = len(rows) < rows_max or all(row.created_at >= before_ms for row in rows)
    return Walk(len(ids), None if is_over else rows[-1].id)


_KINDS: Mapping[str, tuple[Table, Condition, ColumnElement[int]]] = {
    "heartbeats": (reports, lambda before: (reports.c.type == "heartbeat") & (reports.c.received_at < before), reports.c.received_at),
    "reports": (reports, lambda before: (reports.c.type != "heartbeat") & (reports.c.received_at < before), reports.c.received_at),
    "connections": (
        connection_logs,
        lambda before: (connection_logs.c.connected_at < before) & (connection_logs.c.disconnected_at < before),
        connection_logs.c.connected_at,
    ),
    "audit": (audit, lambda before: audit.c.at < before, audit.c.at),
    "alarms": (alarms, lambda before: alarms.c.cleared_at < before, alarms.c.cleared_at),
    "stays": (room_members, lambda before: room_members.c.left_at < before, room_members.c.left_at),
    "sessions": (room_sessions, lambda before: room_sessions.c.ended_at < before, room_sessions.c.ended_at),
    "guests": (device_status, lambda before: _IS_GUEST & (device_status.c.updated_at < before), device_status.c.device_id),
    "rooms": (rooms, lambda before: rooms.c.ended_at < before, rooms.c.ended_at),
    "tokens": (revoked_tokens, lambda before: revoked_tokens.c.expires_at < before, revoked_tokens.c.revoked_at),
}
"""Of each kind its table, what is old, and the column by whose index the oldest come first: by another order, a step that finds too few
would read the whole table, every hour, while nobody else can write."""

KINDS = tuple(_KINDS)
"""What can be deleted by age, besides commands."""
