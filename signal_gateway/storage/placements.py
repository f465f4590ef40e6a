"""Where phones stand by their own word: taken over where nothing weightier says it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, select, update

from signal_gateway.domain.principal import LinkKind
from signal_gateway.storage.devices import LABEL_CHARS, DeviceRecord, find_device
from signal_gateway.storage.tables import credentials, devices


class Placement(NamedTuple):
    """What a device says in what it reports. None: nothing."""

    device_id: str
    device_group: str | None
    sitename: str | None
    at: int


def take_over(connection: Connection, told: Sequence[Placement]) -> list[DeviceRecord | None]:
    """The work of a job of the batch writer. Each device as it is now, or None where nothing changes.

    The group of the key that brought a phone in stands above all, for operators are limited by it; then what its newest Device-Info names.
    So a report gives a phone no choice that it does not have at the door. Agents have none: only their keys name groups.
    """
    return [_take_over(connection, each) for each in told]


def _take_over(connection: Connection, told: Placement) -> DeviceRecord | None:
    record = find_device(connection, told.device_id)
    if record is None or record.kind != LinkKind.PHONE.value:
        return None
    named = (json.loads(record.info) if record.info else None) or {}
    group_of_key = connection.scalar(select(credentials.c.device_group).where(credentials.c.id == record.credential_id))
    moved = replace(
        record,
        device_group=record.device_group if group_of_key or named.get("device_group") else _label(told.device_group) or record.device_group,
        sitename=record.sitename if named.get("sitename") else _label(told.sitename) or record.sitename,
    )
    if moved == record:
        return None
    values = {"device_group": moved.device_group, "sitename": moved.sitename, "updated_at": told.at}
    connection.execute(update(devices).where(devices.c.device_id == told.device_id).values(values))
    return moved


def _label(text: str | None) -> str | None:
    """A name as it would be taken from Device-Info."""
    return text[:LABEL_CHARS] if text and text.isprintable() else None
