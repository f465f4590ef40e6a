"""Alarms on disk. Of each device, type and SIM at most one is open."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, or_, select, update

from signal_gateway.domain.access import Scope
from signal_gateway.domain.alarm import Alarm, AlarmKey, AlarmType, Severity
from signal_gateway.storage.tables import alarms, devices

_NAMES = tuple(column.name for column in alarms.c)
_ALL = select(*alarms.c)


@dataclass(frozen=True, slots=True)
class Raise:
    """Open an alarm, or raise the open one again."""

    key: AlarmKey
    severity: Severity
    message: str
    source: str
    at: int


@dataclass(frozen=True, slots=True)
class Clear:
    """End the open alarm, if there is one."""

    key: AlarmKey
    at: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Somebody has seen it. One that only the device could clear is cleared by that."""

    alarm_id: int
    by: str
    at: int
    clears: frozenset[AlarmType]
    """Types that nothing but a person clears."""


AlarmChange = Raise | Clear | Acknowledge


def apply(connection: Connection, changes: Sequence[AlarmChange]) -> list[Alarm | None]:
    """The work of a job of the batch writer: each alarm as it is afterwards; None where there is none to change."""
    return [_apply(connection, change) for change in changes]


def find(
    connection: Connection, scope: Scope, device_id: str | None, type_: str | None, is_open: bool | None, before: int | None, limit: int
) -> list[Alarm]:
    """Alarms of this part of the fleet, newest first, of ids below `before`."""
    conditions: list[ColumnElement[bool]] = []
    if device_id is not None:
        conditions.append(alarms.c.device_id == device_id)
    if type_ is not None:
        conditions.append(alarms.c.alarm_type == type_)
    if is_open is not None:
        conditions.append(alarms.c.cleared_at.is_(None) if is_open else alarms.c.cleared_at.is_not(None))
    if before is not None:
        conditions.append(alarms.c.id < before)
    if not scope.is_whole_fleet:
        of_groups = select(devices.c.device_id).where(devices.c.device_group.in_(sorted(scope.groups or ())))
        conditions.append(or_(alarms.c.device_id.in_(sorted(scope.devices or ())), alarms.c.device_id.in_(of_groups)))
    query = _ALL.where(*conditions).order_by(alarms.c.id.desc()).limit(limit)
    return [_alarm_of(row) for row in connection.execute(query)]


def find_one(connection: Connection, alarm_id: int) -> Alarm | None:
    """One alarm."""
    row = connection.execute(_ALL.where(alarms.c.id == alarm_id)).first()
    return None if row is None else _alarm_of(row)


def open_severities(connection: Connection) -> dict[AlarmKey, Severity]:
    """What there are open alarms of, and how bad each is."""
    columns = alarms.c
    query = select(columns.device_id, columns.alarm_type, columns.sim_slot, columns.severity).where(columns.cleared_at.is_(None))
    return {AlarmKey(row[0], AlarmType(row[1]), row[2]): Severity(row[3]) for row in connection.execute(query)}


def _apply(connection: Connection, change: AlarmChange) -> Alarm | None:
    if isinstance(change, Acknowledge):
        return _acknowledge(connection, change)
    kept = connection.execute(_ALL.where(_is_open(change.key))).first()
    if isinstance(change, Clear):
        return None if kept is None else _changed(connection, kept.id, cleared_at=change.at)
    if kept is not None:
        values = {"severity": change.severity.value, "message": change.message, "last_at": change.at}
        return _changed(connection, kept.id, **values, occurrences=kept.occurrences + 1)
    values = {
        "device_id": change.key.device_id,
        "alarm_type": change.key.type.value,
        "sim_slot": change.key.sim_slot,
        "severity": change.severity.value,
        "message": change.message,
        "source": change.source,
        "occurrences": 1,
        "raised_at": change.at,
        "last_at": change.at,
    }
    return _alarm_of(connection.execute(insert(alarms).values(values).returning(*alarms.c)).one())


def _acknowledge(connection: Connection, change: Acknowledge) -> Alarm | None:
    kept = find_one(connection, change.alarm_id)
    if kept is None:
        return None
    values: dict[str, Any] = {}
    if kept.acknowledged_at is None:
        values |= {"acknowledged_at": change.at, "acknowledged_by": change.by[:128]}
    if kept.cleared_at is None and (kept.type in change.clears or kept.source == "device"):
        values["cleared_at"] = change.at
    return _changed(connection, kept.id, **values) if values else kept


def _changed(connection: Connection, alarm_id: int, **values: Any) -> Alarm:
    return _alarm_of(connection.execute(update(alarms).where(alarms.c.id == alarm_id).values(values).returning(*alarms.c)).one())


def _is_open(key: AlarmKey) -> ColumnElement[bool]:
    slot = alarms.c.sim_slot.is_(None) if key.sim_slot is None else alarms.c.sim_slot == key.sim_slot
    return and_(alarms.c.device_id == key.device_id, alarms.c.alarm_type == key.type.value, slot, alarms.c.cleared_at.is_(None))


def _alarm_of(row: Row[Any]) -> Alarm:
    values: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    values["type"], values["severity"] = AlarmType(values.pop("alarm_type")), Severity(values["severity"])
    return Alarm(**values)
