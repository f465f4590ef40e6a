"""Commands to phones: every example of seed 000 §3, byte by byte, and read back as a phone does."""

import json
from typing import Any

import msgspec
import pytest

import protocol.dialect as dialect
from protocol.fields import InvalidField
from protocol.frame import FrameType, decode_frame
from protocol.payload import PayloadKind, read_payload
from protocol.phone_commands import (
    COMMAND_NAMES,
    AlarmStart,
    AlarmStartData,
    AlarmStop,
    ConnectionEstablished,
    FindDevice,
    FindDeviceData,
    PhoneCommand,
    SendRcs,
    SendRcsData,
    SendSms,
    SendSmsData,
    SendUssd,
    SendUssdData,
    UssdReply,
    UssdReplyData,
    read_command,
)
from signal_gateway.domain.phone_settings import PhoneSettings
from tests.protocol.seed_phone_messages import COMMANDS

UUID = bytes(range(16))

SAID: dict[str, PhoneCommand] = {
    "connection_established": ConnectionEstablished(settings=PhoneSettings()),
    "send_sms": SendSms(
        message_id="unique_message_id",
        data=SendSmsData(sim_slot=0, phone_number="+905551234567", message="SMS content", priority="normal"),
    ),
    "send_ussd": SendUssd(
        message_id="unique_message_id", data=SendUssdData(sim_slot=0, ussd_code="*100#", session_id="optional_session_id", delay=0)
    ),
    "send_rcs": SendRcs(
        message_id="unique_message_id",
        data=SendRcsData(sim_slot=0, phone_number="+905551234567", message="RCS message content", message_type="text"),
    ),
    "find_device": FindDevice(data=FindDeviceData(message="Find my device")),
    "alarm_start": AlarmStart(data=AlarmStartData(alarm_type="sim_blocked", message="SIM card is blocked")),
    "alarm_stop": AlarmStop(),
}

ADDITIVE: list[tuple[PhoneCommand, str]] = [
    (
        UssdReply(message_id="m", data=UssdReplyData(sim_slot=1, session_id="s", reply="2")),
        '{"type":"ussd_reply","message_id":"m","data":{"sim_slot":1,"session_id":"s","reply":"2"}}',
    ),
    (
        SendUssd(message_id="m", data=SendUssdData(sim_slot=0, ussd_code="*100#", delay=2, auto_cancel=False)),
        '{"type":"send_ussd","message_id":"m","data":{"sim_slot":0,"ussd_code":"*100#","delay":2,"auto_cancel":false}}',
    ),
    (
        ConnectionEstablished(settings={"a": 1}, device_key="sgk_1_x"),
        '{"type":"connection_established","settings":{"a":1},"device_key":"sgk_1_x"}',
    ),
]


def compact(text: str) -> str:
    return json.dumps(json.loads(text), separators=(",", ":"))


def said(command: PhoneCommand) -> str:
    return dialect.say(True, PayloadKind.JSON, UUID, command).decode()


def as_tree(command: PhoneCommand) -> Any:
    return msgspec.to_builtins(command)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_written_with_the_keys_and_the_order_that_the_seed_prints(name: str):
    assert said(SAID[name]) == compact(COMMANDS[name])


def test_the_seven_commands_of_the_seed_and_ussd_reply_are_all_there_are():
    assert set(COMMAND_NAMES.values()) == {*COMMANDS, "ussd_reply"}


def test_connection_established_carries_the_nineteen_settings_and_nothing_else():
    message = json.loads(said(SAID["connection_established"]))
    assert list(message) == ["type", "settings"]
    assert len(message["settings"]) == 19


@pytest.mark.parametrize(("command", "text"), ADDITIVE)
def test_an_additive_field_is_written_only_where_it_says_something(command: PhoneCommand, text: str):
    assert said(command) == text


@pytest.mark.parametrize("command", [*SAID.values(), *(command for command, _ in ADDITIVE)])
@pytest.mark.parametrize("kind", [PayloadKind.JSON, PayloadKind.CBOR])
def test_a_command_frame_carries_the_very_object_of_the_json_text(command: PhoneCommand, kind: PayloadKind):
    frame = decode_frame(dialect.say(False, kind, UUID, command))
    assert (frame.type, frame.uuid, frame.payload_kind) == (FrameType.COMMAND, UUID, kind)
    assert read_payload(kind, frame.payload) == json.loads(said(command))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_phone_reads_what_the_seed_prints(name: str):
    command = read_command(json.loads(COMMANDS[name]))
    assert COMMAND_NAMES[type(command)] == name
    assert as_tree(command) == json.loads(COMMANDS[name])


@pytest.mark.parametrize(("command", "text"), ADDITIVE)
def test_a_phone_reads_the_additive_commands(command: PhoneCommand, text: str):
    assert read_command(json.loads(text)) == command


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "type"),
        ({"type": "self_destruct"}, "type"),
        ({"type": "send_sms", "message_id": 7, "data": {}}, "message_id"),
        ({"type": "send_sms", "message_id": "m"}, "data"),
        ({"type": "send_sms", "message_id": "m", "data": {"sim_slot": "0"}}, "data.sim_slot"),
        ({"type": "send_sms", "message_id": "m", "data": {"sim_slot": 0, "priority": "low"}}, "data.priority"),
        ({"type": "alarm_start", "data": {"alarm_type": "tea_is_ready", "message": ""}}, "data.alarm_type"),
    ],
)
def test_a_phone_that_reads_a_wrong_command_names_the_field(message: dict[str, Any], field: str):
    with pytest.raises(InvalidField) as caught:
        read_command(message)
    assert caught.value.field == field


def test_a_device_key_is_shown_in_no_repr():
    assert "sgk_1_x" not in repr(ConnectionEstablished(settings={}, device_key="sgk_1_x"))
