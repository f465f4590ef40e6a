"""Reports: filed, and as they were sent."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.events import ReportFiled
from signal_gateway.domain.report import Report
from signal_gateway.services.reports import Reports, ReportsSettings
from tests.services.conftest import STARTED_MS, Services
from tests.storage.reports_filed import filed

IMEI = "490154203237518"
KINDS = [
    "heartbeat",
    "device_status",
    "alarm",
    "sms_log",
    "sms_message",
    "sms_delivery_report",
    "ussd_response",
    "ussd_response_failed",
    "mms_received",
    "rcs_received",
    "ussd_code",
    "find_device_success",
    "find_device_failed",
    "alarm_started",
    "alarm_failed",
    "alarm_stopped",
    "alarm_stop_failed",
    "ussd_cancelled",
]
SIM = {"slot_index": 0, "iccid": IMEI}
BEAT: dict[str, Any] = {
    "battery_level": 80,
    "battery_status": "charging",
    "network_type": "LTE",
    "sim_cards": [{"slot_index": 0, "iccid": IMEI}],
}


def reports_of(services: Services, **settings: Any) -> Reports:
    return Reports(services.writer, services.bus, services.subscriber_ids, ReportsSettings(**settings), services.metrics)


def report(kind: str = "sms_log", device_id: str = "phone-1", received_at: int = STARTED_MS, **data: Any) -> Report:
    return Report(device_id, kind, data, received_at, reported_at=5, message_id="m-1")


def beat(**changes: Any) -> Report:
    return report("heartbeat", **{**BEAT, **changes})


async def test_every_kind_is_filed_told_and_found_as_it_was_sent(autojump_clock: MockClock, services: Services):
    reports = reports_of(services)
    durable: list[str] = []
    for kind in KINDS:
        reports.file(report(kind, unknown={"field": [1, None, "ü"]}), lambda kind=kind: durable.append(kind))
    await services.settle()

    assert len(KINDS) == 18
    assert durable == KINDS
    assert [event.report.type for event in services.of(ReportFiled)] == KINDS
    found = await filed(services.database)
    assert [(one.type, one.data, one.reported_at, one.message_id) for one in found] == [
        (kind, {"unknown": {"field": [1, None, "ü"]}}, 5, "m-1") for kind in KINDS
    ]


async def test_heartbeats_that_tell_nothing_new_are_filed_every_five_minutes(autojump_clock: MockClock, services: Services):
    reports = reports_of(services)
    acknowledged: list[float] = []
    for number in range(31):  # 15 minutes, one every 30 s
        reports.file(beat(battery_level=80 - number, signal_dbm=-65 - number), lambda: acknowledged.append(trio.current_time()))
        await trio.sleep(30)
    await services.settle()

    assert len(await filed(services.database, "heartbeat")) == 4
    assert len(services.of(ReportFiled)) == 4
    assert len(acknowledged) == 31
    assert services.metrics.text().decode().count("heartbeats_spared_total 27.0") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"battery_status": "discharging"},
        {"network_type": "5G"},
        {"sim_cards": []},
        {"sim_cards": [{"slot_index": 0, "iccid": "8990011234567890123"}]},
        {"sim_cards": [{"slot_index": 0, "iccid": IMEI, "is_active": False}]},
    ],
)
async def test_a_heartbeat_that_tells_a_change_is_filed_at_once(autojump_clock: MockClock, services: Services, change: dict[str, Any]):
    reports = reports_of(services)
    for told in (beat(), beat(), beat(**change), beat(**change), beat()):
        reports.file(told)
    await services.settle()

    assert len(await filed(services.database)) == 3


@pytest.mark.parametrize("told", [beat(), beat(battery_status="full")])
async def test_after_a_heartbeat_that_was_not_taken_the_next_is_filed_whatever_it_tells(
    autojump_clock: MockClock, services: Services, monkeypatch: pytest.MonkeyPatch, told: Report
):
    """Its own state is not in the history, and it may have told that the state before is over."""
    reports = reports_of(services)
    assert reports.file(beat())
    refused: list[str] = []
    monkeypatch.setattr(services.writer, "put", lambda *_arguments: False)  # as when it is full
    assert not reports.file(beat(battery_status="full"), on_failed=lambda: refused.append("full"))
    monkeypatch.undo()
    assert refused == ["full"]
    assert not reports.spares("phone-1", trio.current_time())

    assert reports.file(told)
    assert reports.spares("phone-1", trio.current_time())
    await services.settle()
    assert [one.data["battery_status"] for one in await filed(services.database)] == ["charging", told.data["battery_status"]]


async def test_a_heartbeat_that_the_database_refuses_leaves_the_next_to_be_filed(autojump_clock: MockClock, services: Services):
    reports = reports_of(services)
    refused: list[bool] = []
    assert reports.file(report("heartbeat", received_at=2**70, **BEAT), on_failed=lambda: refused.append(True))
    await services.settle()
    assert refused == [True]

    assert reports.file(beat())
    await services.settle()
    assert len(await filed(services.database)) == 1


async def test_heartbeats_of_any_shape_are_filed(autojump_clock: MockClock, services: Services):
    reports = reports_of(services)
    for cards in (None, "none", 5, [None, 1, "x"], [{"imei": {"deep": [1]}}], {"slot_index": 0}):
        reports.file(beat(sim_cards=cards if cards != 5 else None))
    await services.settle()

    assert await filed(services.database)


async def test_the_memory_of_heartbeats_is_bounded(autojump_clock: MockClock, services: Services):
    reports = reports_of(services, heartbeat_devices_kept=10)
    for number in range(25):
        reports.file(report("heartbeat", f"phone-{number}", **BEAT))

    assert len(reports._filed_beats) == 10
    assert services.metrics.limits.value("reports.heartbeat_devices_kept") == 15


async def test_subscriber_ids_are_redacted_on_disk_and_in_what_is_told_unless_they_are_to_be_kept(
    autojump_clock: MockClock, services: Services
):
    reports_of(services).file(beat())
    reports_of(services, keep_subscriber_ids=True).file(beat(battery_status="full"))
    await services.settle()

    redacted, kept = await filed(services.database)
    assert kept.data["sim_cards"][0]["iccid"] == IMEI
    assert redacted.data["sim_cards"][0]["iccid"]["last_four"] == "7518"
    assert IMEI not in repr(services.of(ReportFiled)[0])


async def test_a_report_that_was_not_taken_is_not_known(autojump_clock: MockClock, services: Services, monkeypatch: pytest.MonkeyPatch):
    reports = reports_of(services)
    told: list[str] = []
    monkeypatch.setattr(services.writer, "put", lambda *_arguments: False)  # as when it is full
    reports.file(report(), on_failed=lambda: told.append("refused"), report_id="r1")
    monkeypatch.undo()
    assert not reports.is_known("r1")

    reports.file(report(), lambda: told.append("kept"), report_id="r1")
    assert reports.is_known("r1")
    assert told == ["refused"]
    await services.settle()
    assert told == ["refused", "kept"]
    assert len(services.of(ReportFiled)) == 1
