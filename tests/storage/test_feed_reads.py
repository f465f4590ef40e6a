"""What it costs to ask for the newest reports: as much after a long past as after a short one."""

from typing import Any

import pytest
from sqlalchemy import Connection, insert

from signal_gateway.domain.access import Scope
from signal_gateway.domain.fleet import ReportFilter
from signal_gateway.storage.fleet import find_last_report_id, find_reports_after
from signal_gateway.storage.inline import InlineDatabase
from signal_gateway.storage.tables import devices, reports

from .sqlite_steps import steps

SHORT, LONG = 5, 200
FLEET = ("phone-1", "phone-2", "phone-3")
SHOPS = FLEET[:2]
TYPES = ("heartbeat", "sms_log", "alarm")

ASKED: dict[str, tuple[Scope, ReportFilter, tuple[str, ...], tuple[str, ...]]] = {
    "all": (Scope(), ReportFilter(), FLEET, TYPES),
    "a type": (Scope(), ReportFilter("sms_log"), FLEET, ("sms_log",)),
    "a device": (Scope(), ReportFilter(None, "phone-1"), ("phone-1",), TYPES),
    "a type of a device": (Scope(), ReportFilter("sms_log", "phone-1"), ("phone-1",), ("sms_log",)),
    "a group": (Scope(), ReportFilter(None, None, "shops"), SHOPS, TYPES),
    "a type of a group": (Scope(), ReportFilter("sms_log", None, "shops"), SHOPS, ("sms_log",)),
    "what an operator may see": (Scope(devices=frozenset({"phone-1"})), ReportFilter(), ("phone-1",), TYPES),
}
"""Whose look, what for, and of which devices and types the answer is."""


def file(connection: Connection, times: int) -> None:
    """So many reports of each type of each device."""
    rows: list[dict[str, Any]] = [
        {"device_id": device, "type": kind, "data": {}, "received_at": at} for at in range(times) for device in FLEET for kind in TYPES
    ]
    connection.execute(insert(reports), rows)


def know(connection: Connection) -> None:
    """The devices, two of them in shops."""
    rows: list[dict[str, Any]] = [
        {"device_id": device, "kind": "phone", "device_group": "shops" if device in SHOPS else None, "created_at": 0, "updated_at": 0}
        for device in FLEET
    ]
    connection.execute(insert(devices), rows)


@pytest.mark.parametrize(("scope", "wanted", "of_devices", "of_types"), ASKED.values(), ids=ASKED.keys())
def test_it_does_not_grow_with_the_past(scope: Scope, wanted: ReportFilter, of_devices: tuple[str, ...], of_types: tuple[str, ...]):
    def look(connection: Connection) -> list[tuple[str, str]]:
        return [(report.device_id, report.type) for report in find_reports_after(connection, scope, wanted, seen, 50)]

    costs: list[int] = []
    for past in (SHORT, LONG):
        database = InlineDatabase()
        with database.engine.connect() as connection:
            know(connection)
            file(connection, past)
            seen = find_last_report_id(connection)
            file(connection, 1)
            assert look(connection) == [(device, kind) for device in of_devices for kind in of_types]
            costs.append(steps(connection, look))
            connection.rollback()
        database.close()
    assert costs[1] <= 1.2 * costs[0], costs
