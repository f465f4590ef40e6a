"""Reports of phones: every example of seed 000 §4, every field of every type, and what is kept of what is not known."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest

from protocol.errors import InvalidFormat
from protocol.fields import InvalidField
from protocol.phone_reports import (
    REPORT_TYPES,
    AlarmData,
    HeartbeatData,
    RcsLogData,
    ReportData,
    SmsLogData,
    UnknownReport,
    UssdResponseFailedData,
    read_report,
)
from tests.protocol.seed_phone_messages import REPORTS, report

Path = tuple[str | int, ...]
ALARM_TYPES = [
    "battery_low",
    "signal_low",
    "sim_balance_low",
    "error_count",
    "offline",
    "sim_blocked",
    "sms_blocked",
    "mms_blocked",
    "ussd_blocked",
]


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value in a tree, objects and arrays included."""
    if path:
        yield path
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(child, (*path, key))


def spelled(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def changed(message: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    message = copy.deepcopy(message)
    target: Any = message
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return message


def at(message: Any, path: Path) -> Any:
    for step in path:
        message = message[step]
    return message


FIELDS = [(name, path) for name in REPORTS for path in leaves(report(name)) if path != ("type",)]
"""Every field that the seed prints, and every object and array."""


def test_there_are_the_eighteen_reports_of_the_seed_and_rcs_log():
    assert len(REPORTS) == 18
    assert {*REPORTS, "rcs_log"} == REPORT_TYPES
    assert len(get_args(ReportData)) == 19


@pytest.mark.parametrize("name", REPORTS)
def test_each_example_of_the_seed_is_read_whole(name: str):
    message = report(name)
    read = read_report(message)
    assert (read.type, read.timestamp) == (name, 1640995200000)
    assert read.raw == message["data"]
    typed = msgspec.to_builtins(read.data)
    for path in leaves(message["data"]):
        if not isinstance(at(message["data"], path), dict | list):
            assert at(typed, path) == at(message["data"], path), path


@pytest.mark.parametrize(("name", "path"), FIELDS, ids=[f"{name}:{spelled(path)}" for name, path in FIELDS])
def test_a_wrong_type_in_any_field_names_its_path(name: str, path: Path):
    message = report(name)
    wrong = 12.5 if not isinstance(at(message, path), float) else "12.5"
    with pytest.raises(InvalidField) as caught:
        read_report(changed(message, path, wrong))
    assert (caught.value.reason, caught.value.kind.status) == ("invalid_field", 400)
    assert caught.value.field == spelled(path)
    assert caught.value.message.startswith(f"{spelled(path)}: ")
    assert caught.value.details == {"field": spelled(path)}


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, path in FIELDS if not isinstance(at(report(name), path), bool)])
def test_true_stands_for_no_number_and_no_text(name: str, path: Path):
    with pytest.raises(InvalidField) as caught:
        read_report(changed(report(name), path, True))
    assert caught.value.field == spelled(path)


REQUIRED = {
    "heartbeat": [],
    "device_status": ["status"],
    "alarm": ["alarm_type"],
    "sms_log": ["phone_number", "status"],
    "sms_message": ["phone_number", "message", "direction"],
    "sms_delivery_report": ["status"],
    "ussd_response": ["response"],
    "ussd_response_failed": [],
    "mms_received": ["sender"],
    "rcs_received": ["sender"],
    "ussd_code": ["ussd_code"],
    "find_device_success": [],
    "find_device_failed": [],
    "alarm_started": [],
    "alarm_failed": [],
    "alarm_stopped": [],
    "alarm_stop_failed": [],
    "ussd_cancelled": [],
}
DATA_FIELDS = [(name, field) for name in REPORTS for field in report(name)["data"]]


@pytest.mark.parametrize(("name", "field"), DATA_FIELDS)
def test_only_the_fields_without_which_a_message_means_nothing_are_required(name: str, field: str):
    message = report(name)
    del message["data"][field]
    if field not in REQUIRED[name]:
        assert read_report(message).raw == message["data"]
        return
    with pytest.raises(InvalidField) as caught:
        read_report(message)
    assert caught.value.message == f"data.{field}: Missing required field"


@pytest.mark.parametrize(("name", "field"), DATA_FIELDS)
def test_null_stands_for_an_absent_field(name: str, field: str):
    message = changed(report(name), ("data", field), None)
    if field in REQUIRED[name]:
        with pytest.raises(InvalidField) as caught:
            read_report(message)
        assert caught.value.field == f"data.{field}"
    else:
        assert getattr(read_report(message).data, field) is None


@pytest.mark.parametrize("parts", [*itertools.combinations(report("heartbeat")["data"], 4)])
def test_a_heartbeat_may_carry_any_part(parts: tuple[str, ...]):
    message = report("heartbeat")
    message["data"] = {name: message["data"][name] for name in parts}
    read = read_report(message)
    assert {name for name in HeartbeatData.__struct_fields__ if getattr(read.data, name) is not None} == set(parts)


def test_a_heartbeat_without_data_says_that_the_phone_lives():
    read = read_report({"type": "heartbeat"})
    assert (read.data, read.raw, read.timestamp) == (HeartbeatData(), {}, None)


def test_a_sim_card_is_nothing_without_its_slot():
    message = report("heartbeat")
    del message["data"]["sim_cards"][0]["slot_index"]
    with pytest.raises(InvalidField, match=r"^data\.sim_cards\[0\]\.slot_index: Missing required field$"):
        read_report(message)


def test_a_delivery_report_names_its_message_or_its_number():
    message = report("sms_delivery_report")
    del message["data"]["message_id"], message["data"]["phone_number"]
    with pytest.raises(InvalidField) as caught:
        read_report(message)
    assert caught.value.field == "data.message_id"
    assert read_report({**message, "message_id": "m-1"}).message_id == "m-1"


@pytest.mark.parametrize("name", sorted(REPORT_TYPES))
def test_unknown_fields_are_kept_in_every_report(name: str):
    example: dict[str, Any] = report(name) if name in REPORTS else {"type": name, "data": {"phone_number": "1", "status": "sent"}}
    extra = {"vendor": {"deep": [1, None, "ä"]}}
    example["data"] |= extra
    assert read_report(example).raw == example["data"]


@pytest.mark.parametrize("name", ["sms_log", "sms_delivery_report", "ussd_response", "ussd_cancelled", "rcs_log"])
def test_a_message_id_is_heard_beside_data_and_in_it(name: str):
    data: dict[str, Any] = {"phone_number": "1", "response": "x", "status": "sent"}
    data |= report(name)["data"] if name in REPORTS else {}
    data.pop("message_id", None)
    assert read_report({"type": name, "data": {**data, "phone_number": "1"}}).message_id is None
    assert read_report({"type": name, "message_id": "top", "data": data}).message_id == "top"
    assert read_report({"type": name, "data": {**data, "message_id": "inner"}}).message_id == "inner"
    assert read_report({"type": name, "message_id": "top", "data": {**data, "message_id": "inner"}}).message_id == "top"
    assert read_report({"type": name, "data": {**data, "phone_number": "1", "message_id": ""}}).message_id is None


def test_sms_log_may_say_its_message_its_segments_and_its_error():
    data = {"phone_number": "1", "status": "failed", "message_id": "m", "segments": 3, "error_code": -4}
    read = read_report({"type": "sms_log", "data": data})
    assert read.data == SmsLogData(phone_number="1", status="failed", message_id="m", segments=3, error_code=-4)


WORDS = [
    ("device_status", "status", ["online", "offline", "error", "maintenance"]),
    ("alarm", "alarm_type", ALARM_TYPES),
    ("alarm", "severity", ["warning", "error", "critical"]),
    ("sms_log", "status", ["sent", "failed", "delivered"]),
    ("sms_message", "direction", ["received", "sent"]),
    ("sms_delivery_report", "status", ["delivered", "failed", "pending"]),
    ("ussd_response", "status", ["RESPONSE_RECEIVED"]),
    ("ussd_response_failed", "status", ["FAILED", "TIMEOUT"]),
    ("rcs_received", "message_type", ["text", "image", "video", "file"]),
    ("find_device_success", "status", ["success"]),
    ("find_device_failed", "status", ["failed"]),
    ("alarm_started", "alarm_type", ALARM_TYPES),
    ("alarm_started", "status", ["started"]),
    ("alarm_failed", "alarm_type", ALARM_TYPES),
    ("alarm_failed", "status", ["failed"]),
    ("alarm_stopped", "status", ["stopped"]),
    ("alarm_stop_failed", "status", ["failed"]),
    ("ussd_cancelled", "status", ["CANCELLED"]),
]


@pytest.mark.parametrize(("name", "field", "words"), WORDS)
def test_a_field_with_a_list_of_words_takes_these_and_no_other(name: str, field: str, words: list[str | int]):
    for word in words:
        assert getattr(read_report(changed(report(name), ("data", field), word)).data, field) == word
    for other in ("", "SENT", "Online", 0, 9):
        with pytest.raises(InvalidField) as caught:
            read_report(changed(report(name), ("data", field), other))
        assert caught.value.field == f"data.{field}"


def test_a_ussd_timeout_is_a_failure_with_code_5():
    read = read_report({"type": "ussd_response_failed", "data": {"failure_code": 5, "status": "TIMEOUT"}})
    assert read.data == UssdResponseFailedData(failure_code=5, status="TIMEOUT")


@pytest.mark.parametrize("code", [-1, 0, 8, 9, 99, -100])
def test_a_ussd_code_failed_whatever_the_number_of_its_failure(code: int):
    read = read_report({"type": "ussd_response_failed", "data": {"failure_code": code}})
    assert read.data == UssdResponseFailedData(failure_code=code)


def test_a_phone_may_raise_the_alarm_that_only_the_second_list_of_the_seed_names():
    assert read_report({"type": "alarm", "data": {"alarm_type": "ussd_blocked"}}).data == AlarmData(alarm_type="ussd_blocked")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("heartbeat", ("data", "device_info", "device_id")),
        ("heartbeat", ("data", "sim_cards", 0, "imei")),
        ("heartbeat", ("data", "sim_cards", 0, "imsi")),
        ("heartbeat", ("data", "sim_cards", 0, "iccid")),
        ("ussd_response", ("data", "message_id")),
        ("ussd_response", ("data", "session_id")),
        ("alarm", ("message_id",)),
        ("alarm", ("request_id",)),
    ],
)
def test_ids_hold_no_nul_and_at_most_128_characters(name: str, path: Path):
    assert read_report(changed(report(name), path, "i" * 128))
    for wrong in ("i" * 129, "a\0b", "\0", "a\n\0"):
        with pytest.raises(InvalidField) as caught:
            read_report(changed(report(name), path, wrong))
        assert caught.value.field == spelled(path)


@pytest.mark.parametrize(
    ("path", "largest", "beyond"),
    [
        (("data", "battery_level"), 2**31 - 1, 2**31),
        (("data", "signal_dbm"), -(2**31), -(2**31) - 1),
        (("timestamp",), 2**53 - 1, 2**53),
        (("timestamp",), 0, -1),
        (("data", "network_type"), "x" * 256, "x" * 257),
        (("data", "sim_cards"), [{"slot_index": 0}] * 8, [{"slot_index": 0}] * 9),
    ],
)
def test_numbers_names_and_lists_have_bounds(path: Path, largest: Any, beyond: Any):
    assert read_report(changed(report("heartbeat"), path, largest))
    with pytest.raises(InvalidField) as caught:
        read_report(changed(report("heartbeat"), path, beyond))
    assert caught.value.field == spelled(path)


def test_an_mms_has_at_most_128_parts():
    message = report("mms_received")
    message["data"]["parts"] = [{}] * 128
    assert read_report(message)
    message["data"]["parts"].append({})
    with pytest.raises(InvalidField, match=r"^data\.parts: "):
        read_report(message)


@pytest.mark.parametrize("name", ["", "heartbeats", "HEARTBEAT", "send_sms", "x" * 1000, "\0", "heartbeat "])
def test_an_unknown_type_is_told_so_in_few_characters(name: str):
    with pytest.raises(UnknownReport) as caught:
        read_report({"type": name, "data": {}})
    assert isinstance(caught.value, InvalidFormat)
    assert caught.value.reason == "unknown_type"
    assert len(caught.value.message) < 120


@pytest.mark.parametrize("name", [None, 1, 1.5, True, [], {}, b"heartbeat"])
def test_a_type_that_is_no_text_is_an_invalid_field(name: object):
    with pytest.raises(InvalidField) as caught:
        read_report({"type": name})
    assert caught.value.field == "type"


@pytest.mark.parametrize("data", [None, [], [{}], "", "{}", 0, 1.5, True])
def test_data_that_is_no_object_is_an_invalid_field(data: object):
    for name in sorted(REPORT_TYPES):
        with pytest.raises(InvalidField) as caught:
            read_report({"type": name, "data": data})
        assert caught.value.field == "data"


def test_a_wrong_word_of_a_megabyte_is_not_told_back_whole():
    with pytest.raises(InvalidField) as caught:
        read_report({"type": "alarm", "data": {"alarm_type": "x" * 1_000_000}})
    assert len(caught.value.message) < 250


def test_a_path_begins_where_the_report_stands():
    with pytest.raises(InvalidField) as caught:
        read_report({"type": "alarm", "data": {"alarm_type": 1}}, "data")
    assert caught.value.field == "data.data.alarm_type"


@pytest.mark.parametrize("status", ["sent", "failed", "delivered", "read"])
def test_rcs_log_tells_of_the_delivery_too(status: str):
    read = read_report({"type": "rcs_log", "data": {"phone_number": "1", "status": status, "delivery_report": True}})
    assert read.data == RcsLogData(phone_number="1", status=status, delivery_report=True)  # type: ignore[arg-type]
    with pytest.raises(InvalidField):
        read_report({"type": "rcs_log", "data": {"phone_number": "1", "status": "seen"}})
