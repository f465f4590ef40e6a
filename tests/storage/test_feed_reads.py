"""What it costs to ask for the newest reports: as much after a long past as after a short one."""

from collections.abc import Callable
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
TYPES = ("heartbeat", "sms_log", "alarm")

ASKED: dict[str, tuple[Scope, ReportFilter]] = {
    "all": (Scope(), ReportFilter()),
    "a type": (Scope(), ReportFilter("sms_log")),
    "a device": (Scope(), ReportFilter(None, "phone-1")),
    "a type of a device": (Scope(), ReportFilter("sms_log", "phone-1")),
    "a group": (Scope(), ReportFilter(None, None, "shops")),
    "a type of a group": (Scope(), ReportFilter("sms_log", None, "shops")),
    "what an operator may see": (Scope(devices=frozenset({"phone-1"})), ReportFilter()),
}


def file(connection: Connection, times: int) -> None:
    """So many reports of each type of each device."""
    rows: list[dict[str, Any]] = [
        {"device_id": device, "type": kind, "data": {}, "received_at": at} for at in range(times) for device in FLEET for kind in TYPES
    ]
    connection.execute(insert(reports), rows)


@pytest.mark.parametrize(("scope", "wanted"), ASKED.values(), ids=ASKED.keys())
def test_it_does_not_grow_with_the_past(scope: Scope, wanted: ReportFilter):
    costs: list[int] = []
    for past in (SHORT, LONG):
        database = InlineDatabase()
        with database.engine.connect() as connection:
            known = [{"device_id": device, "kind": "phone", "device_group": "shops", "created_at": 0, "updated_at": 0} for device in FLEET]
            connection.execute(insert(devices), known)
            file(connection, past)
            seen = find_last_report_id(connection)
            file(connection, 1)
            look: Callable[[Connection], Any] = lambda connection: find_reports_after(connection, scope, wanted, seen, 50)  # noqa: B023, E731
            assert {report.device_id for report in look(connection)} <= set(FLEET)
            costs.append(steps(connection, look))
            connection.rollback()
        database.close()
    assert costs[1] <= 1.2 * costs[0], costs
