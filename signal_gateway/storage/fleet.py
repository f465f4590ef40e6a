"""The fleet as its operators see it: devices in pages, their settings, their end, and the reports of many. Times are milliseconds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, and_, cast, delete, false, func, or_, select, update

from signal_gateway.domain.access import Scope
from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.fleet import FleetFilter, ReportFilter
from signal_gateway.domain.principal import LinkKind
from signal_gateway.domain.report import Report
from signal_gateway.storage import credentials as stored_keys
from signal_gateway.storage.records import AuditEntry, StatusRecord, status_of_row, write_audit
from signal_gateway.storage.tables import (
    credentials,
    device_status,
    devices,
    registrations,
    reports,
    sim_recipients,
    sims,
)

_NAMES = ("id", "device_id", "kind", "device_group", "sitename", "manufacturer", "model", "created_at", "updated_at", "settings_version")
_COLUMNS = (*(devices.c[name] for name in _NAMES), cast(devices.c.settings, Text).label("settings"))
_STATUS = tuple(column for column in device_status.c if column.name not in ("device_id", "updated_at"))
_WITH_STATUS = select(*_COLUMNS, *_STATUS).select_from(devices.outerjoin(device_status, device_status.c.device_id == devices.c.device_id))
_OWN_KINDS = (CredentialKind.DEVICE.value, CredentialKind.CLIENT.value)


@dataclass(frozen=True, slots=True)
class FleetRecord:
    """One device with its last known state."""

    id: int
    """In the order of enrolment."""
    device_id: str
    kind: str
    device_group: str | None
    sitename: str | None
    manufacturer: str | None
    model: str | None
    created_at: int
    updated_at: int
    settings_version: int
    settings: Mapping[str, Any]
    """What differs from the settings of every phone."""
    kept: StatusRecord | None


def find_fleet(connection: Connection, scope: Scope, wanted: FleetFilter, after_id: int, limit: int) -> list[FleetRecord]:
    """Devices of a scope, in the order of enrolment, behind `after_id`."""
    query = _WITH_STATUS.where(devices.c.id > after_id, *_in_scope(scope)).order_by(devices.c.id).limit(limit)
    if wanted.device_group is not None:
        query = query.where(devices.c.device_group == wanted.device_group)
    if wanted.sitename is not None:
        query = query.where(devices.c.sitename == wanted.sitename)
    if wanted.status is not None:
        query = query.where(_has_status(wanted.status))
    return [_record(row) for row in connection.execute(query)]


def find_phones(connection: Connection, scope: Scope, device_group: str, limit: int) -> list[str]:
    """The ids of the phones of a group that are in a scope, in the order of enrolment."""
    query = select(devices.c.device_id).where(
        devices.c.device_group == device_group, devices.c.kind == LinkKind.PHONE.value, *_in_scope(scope)
    )
    return list(connection.scalars(query.order_by(devices.c.id).limit(limit)))


def find_one(connection: Connection, device_id: str) -> FleetRecord | None:
    """One device."""
    row = connection.execute(_WITH_STATUS.where(devices.c.device_id == device_id)).first()
    return None if row is None else _record(row)


def change_settings(
    connection: Connection, device_id: str, of_all: Mapping[str, Any], changes: Mapping[str, Any], actor: str, now_ms: int
) -> tuple[FleetRecord, bool] | None:
    """Lay `changes` over what differs for this device already; where any value differs then, count the version up.

    `of_all` are the settings of all phones. Returns the device as it is then, and whether any value differs; None: there is no such device.
    """
    of_device = devices.c.device_id == device_id
    row = connection.execute(select(cast(devices.c.settings, Text), devices.c.settings_version).where(of_device)).first()
    if row is None:
        return None
    before = _settings_of(row[0])
    settings = {**before, **changes}
    differs = {**of_all, **settings} != {**of_all, **before}
    connection.execute(update(devices).where(of_device).values(settings=settings, settings_version=row[1] + differs, updated_at=now_ms))
    detail = ", ".join(sorted(changes))
    write_audit(connection, AuditEntry(now_ms, actor, "settings_change", device_id, "ok", detail=detail))
    record = find_one(connection, device_id)
    return None if record is None else (record, differs)


def delete_device(connection: Connection, device_id: str, actor: str, now_ms: int) -> list[str] | None:
    """Forget a device and revoke the keys that are its own. Returns their ids, or None when there is no such device.

    Reports, commands and the connection log stay: they are history.
    """
    if connection.execute(delete(devices).where(devices.c.device_id == device_id)).rowcount == 0:
        return None
    for table in (registrations, device_status, sims, sim_recipients):
        connection.execute(delete(table).where(table.c.device_id == device_id))
    own = and_(credentials.c.client_id == device_id, credentials.c.kind.in_(_OWN_KINDS), credentials.c.revoked_at.is_(None))
    revoked = list(connection.scalars(select(credentials.c.id).where(own)))
    for credential_id in revoked:
        stored_keys.revoke(connection, credential_id, actor, now_ms)
    write_audit(connection, AuditEntry(now_ms, actor, "device_delete", device_id, "ok"))
    return revoked


def find_reports_after(connection: Connection, scope: Scope, wanted: ReportFilter, after_id: int, limit: int) -> list[Report]:
    """Reports of a scope's devices, in the order in which they were filed, behind `after_id`."""
    query = select(reports).where(reports.c.id > after_id, *_of_devices(scope, wanted)).order_by(reports.c.id).limit(limit)
    if wanted.type is not None:
        query = query.where(reports.c.type == wanted.type)
    return [
        Report(row.device_id, row.type, row.data, row.received_at, row.reported_at, row.message_id, row.id)
        for row in connection.execute(query)
    ]


def find_last_report_id(connection: Connection) -> int:
    """The number of the newest report; 0 when there is none."""
    return connection.scalar(select(func.max(reports.c.id))) or 0


def _in_scope(scope: Scope) -> list[ColumnElement[bool]]:
    """What the row of a device must be, for this scope."""
    if scope.is_whole_fleet:
        return []
    named = [devices.c.device_id.in_(sorted(scope.devices))] if scope.devices else []
    grouped = [devices.c.device_group.in_(sorted(scope.groups))] if scope.groups else []
    return [or_(false(), *named, *grouped)]


def _of_devices(scope: Scope, wanted: ReportFilter) -> Sequence[ColumnElement[bool]]:
    """What the device of a report must be. A device that was deleted is in no group any more."""
    conditions: list[ColumnElement[bool]] = []
    if wanted.device_id is not None:
        conditions.append(reports.c.device_id == wanted.device_id)
    known = select(devices.c.device_id)
    if wanted.device_group is not None:
        conditions.append(reports.c.device_id.in_(known.where(devices.c.device_group == wanted.device_group)))
    if not scope.is_whole_fleet:
        conditions.append(reports.c.device_id.in_(known.where(*_in_scope(scope))))
    return conditions


def _has_status(status: str) -> ColumnElement[bool]:
    linked = func.coalesce(device_status.c.linked, false())
    if status == "offline":
        return linked.is_(False)
    if status == "online":
        return and_(linked.is_(True), func.coalesce(device_status.c.reported, status).not_in(("error", "maintenance")))
    return and_(linked.is_(True), device_status.c.reported == status)


def _record(row: Row[Any]) -> FleetRecord:
    kept = None if row.linked is None else status_of_row(row)
    described = {name: getattr(row, name) for name in _NAMES}
    return FleetRecord(**described, settings=_settings_of(row.settings), kept=kept)


def _settings_of(text: str | None) -> dict[str, Any]:
    return (json.loads(text) or {}) if text else {}
