"""What happened, on disk: reports, status, links, the audit trail. Times are milliseconds since 1970, UTC.

The `*_row` functions make rows for the batch writer; the others read, or write at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, case, func, insert, select, update

from signal_gateway.domain.device import DeviceStatus, Location, SimCard, SubscriberId
from signal_gateway.domain.report import Report
from signal_gateway.storage.rows import Insert, Update, Upsert
from signal_gateway.storage.tables import audit, connection_logs, device_status, devices, reports

ID_CHARS = 128
WORD_CHARS = 32
TYPE_CHARS = 64
ADDRESS_CHARS = 64
REPORTED_CHARS = 16

_STATUS = select(device_status).where(device_status.c.device_id == bindparam("device"))


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to whom, and what came of it (S-17). Never a secret."""

    at: int
    actor: str
    action: str
    subject: str
    outcome: str
    """`ok`, or the stable reason of the refusal."""
    address: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class StatusRecord:
    """The last known state of a device, as it is kept across restarts."""

    linked: bool
    last_activity_at: int | None
    reported: str | None
    status: DeviceStatus


def audit_row(entry: AuditEntry) -> Insert:
    """One line of the audit trail."""
    return Insert(audit, _audit_values(entry))


def write_audit(connection: Connection, entry: AuditEntry) -> None:
    """The same line, in the transaction of what it tells."""
    connection.execute(insert(audit).values(_audit_values(entry)))


def find_audit(connection: Connection, subject: str | None = None, limit: int = 100) -> list[AuditEntry]:
    """The newest lines of the audit trail, newest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject)
    return [
        AuditEntry(row.at, row.actor, row.action, row.subject, row.outcome, row.address, row.detail) for row in connection.execute(query)
    ]


def _audit_values(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at,
        "actor": entry.actor[:ID_CHARS],
        "action": entry.action,
        "subject": entry.subject[:ID_CHARS],
        "outcome": entry.outcome[:WORD_CHARS],
        "address": None if entry.address is None else entry.address[:ADDRESS_CHARS],
        "detail": entry.detail,
    }


def report_row(report: Report) -> Insert:
    """One filed report."""
    values = {
        "device_id": report.device_id,
        "type": report.type[:TYPE_CHARS],
        "data": report.data,
        "message_id": None if report.message_id is None else report.message_id[:ID_CHARS],
        "reported_at": report.reported_at,
        "received_at": report.received_at,
    }
    return Insert(reports, values)


def status_row(
    device_id: str, linked: bool, last_activity_at: int | None, reported: str | None, status: DeviceStatus, now_ms: int
) -> Upsert:
    """The state of a device now. What is None is not in the row, so the last known value stays."""
    location = status.location
    told = {
        "last_activity_at": last_activity_at,
        "reported": None if reported is None else reported[:REPORTED_CHARS],
        "battery_level": status.battery_level,
        "battery_status": None if status.battery_status is None else status.battery_status[:WORD_CHARS],
        "signal_strength": status.signal_strength,
        "signal_dbm": status.signal_dbm,
        "network_type": None if status.network_type is None else status.network_type[:WORD_CHARS],
        "sim_cards": None if status.sim_cards is None else msgspec.to_builtins(status.sim_cards),
        "latitude": None if location is None else location.latitude,
        "longitude": None if location is None else location.longitude,
    }
    known = {name: value for name, value in told.items() if value is not None}
    return Upsert(device_status, ("device_id",), {"device_id": device_id, "linked": linked, "updated_at": now_ms, **known})


def find_status(connection: Connection, device_id: str) -> StatusRecord | None:
    """The last known state of one device."""
    row = connection.execute(_STATUS, {"device": device_id}).first()
    return None if row is None else status_of_row(row)


def status_of_row(row: Any) -> StatusRecord:
    """The state out of a row that has the columns of `device_status`."""
    status = DeviceStatus(
        battery_level=row.battery_level,
        battery_status=row.battery_status,
        signal_strength=row.signal_strength,
        signal_dbm=row.signal_dbm,
        network_type=row.network_type,
        sim_cards=None if row.sim_cards is None else tuple(_sim_of(sim) for sim in row.sim_cards),
        location=None if row.latitude is None or row.longitude is None else Location(row.latitude, row.longitude),
    )
    return StatusRecord(row.linked, row.last_activity_at, row.reported, status)


def last_activities(connection: Connection, kind: str) -> list[tuple[str, int | None]]:
    """When each device of a kind was last heard; None: never."""
    query = select(devices.c.device_id, device_status.c.last_activity_at).select_from(
        devices.outerjoin(device_status, device_status.c.device_id == devices.c.device_id)
    )
    return [(row[0], row[1]) for row in connection.execute(query.where(devices.c.kind == kind))]


def _sim_of(values: Mapping[str, Any]) -> SimCard:
    told = dict(values)
    for name in ("imei", "imsi", "iccid"):
        if told.get(name) is not None:
            told[name] = SubscriberId(**told[name])
    return SimCard(**told)


def link_opened_row(device_id: str, session_id: str, client_type: str, address: str, connected_at: int) -> Insert:
    """A link's line in the connection log (W-25)."""
    values = {
        "device_id": device_id,
        "socket_id": session_id,
        "client_type": client_type,
        "address": address[:ADDRESS_CHARS],
        "connected_at": connected_at,
    }
    return Insert(connection_logs, values)


def link_closed_row(session_id: str, disconnected_at: int, duration_s: float, close_code: int | None, reason: str) -> Update:
    """The end of a link, in the line that its beginning made."""
    values = {
        "disconnected_at": disconnected_at,
        "duration_seconds": duration_s,
        "close_code": close_code,
        "reason": reason[:ID_CHARS],
    }
    return Update(connection_logs, {"socket_id": session_id}, values)


def close_abandoned(connection: Connection, reason: str) -> int:
    """After a crash: no link is left, so end those that look open, and return how many they were.

    They ended when their device was last known to be active; when exactly, nobody saw.
    """
    last_at = (
        select(func.max(device_status.c.last_activity_at))
        .where(device_status.c.device_id == connection_logs.c.device_id)
        .correlate(connection_logs)
        .scalar_subquery()
    )
    ended_at = case((last_at > connection_logs.c.connected_at, last_at), else_=connection_logs.c.connected_at)
    closed = connection.execute(
        update(connection_logs)
        .where(connection_logs.c.disconnected_at.is_(None))
        .values(disconnected_at=ended_at, duration_seconds=(ended_at - connection_logs.c.connected_at) / 1000.0, reason=reason)
    )
    connection.execute(update(device_status).where(device_status.c.linked).values(linked=False))
    return closed.rowcount
