"""What the load side says: the same bytes to the gateway and to its peers."""

from collections.abc import Mapping
from typing import Any

from protocol.dialect import say
from protocol.frame import FrameType, PayloadKind, encode_frame
from protocol.payload import write_json
from protocol.phone_commands import ConnectionEstablished
from signal_gateway.domain.phone_settings import PhoneSettings

UUID = bytes(range(16))
ENROLMENT_KEY = "bench-enrolment-key"
NUMBER = "#####"
"""Stands for the number of a link in whatever the load side says: it writes five digits there."""

CONNECT = encode_frame(
    FrameType.CONNECT, UUID, PayloadKind.JSON, write_json({"client_id": f"bench-{NUMBER}", "auth_token": f"bench-token-{NUMBER}"})
)
HEARTBEAT = encode_frame(FrameType.HEARTBEAT, UUID, PayloadKind.JSON, b'{"timestamp":1704067200000}')
"""48 bytes: what agents ask, and what peers echo."""
HEARTBEAT_BEGINS, HEARTBEAT_ACK_BEGINS, ACK_BEGINS = b"\xaa\x04", b"\xaa\x05", b'{"type":"ack"'

PHONE_HEADERS = (
    f"Authorization: Bearer {ENROLMENT_KEY}",
    f"Queue-Name: queue-{NUMBER}",
    f'Device-Info: {{"device_id":"phone-{NUMBER}","manufacturer":"Samsung","model":"Galaxy S21","device_group":"bench","sitename":"a"}}',
)
PHONE_HEARTBEAT: Mapping[str, Any] = {
    "type": "heartbeat",
    "timestamp": 1_704_067_200_000,
    "data": {
        "battery_level": 85,
        "battery_status": "charging",
        "signal_strength": 4,
        "signal_dbm": -71,
        "network_type": "LTE",
        "location": {"latitude": 48.8566, "longitude": 2.3522},
        "sim_cards": [
            {
                "slot_index": slot,
                "carrier_name": "Example",
                "is_active": True,
                "imsi": f"20801123456789{slot}",
                "iccid": f"893301123456789012{slot}",
                "network_type": "LTE",
            }
            for slot in (0, 1)
        ],
        "note": "",
    },
}
PHONE_HEARTBEAT_BYTES = 600
SMS_MESSAGE: Mapping[str, Any] = {
    "type": "sms_message",
    "timestamp": 1_704_067_200_000,
    "data": {"phone_number": "+905551234567", "message": "hello", "direction": "received"},
}


def padded(heartbeat: Mapping[str, Any], length: int) -> bytes:
    """The heartbeat as JSON of exactly `length` bytes. Raises ValueError when it is longer without padding."""
    missing = length - len(write_json(heartbeat))
    if missing < 0:
        raise ValueError(f"this heartbeat has {-missing} bytes too many")
    return write_json({**heartbeat, "data": {**heartbeat["data"], "note": "x" * missing}})


def asking(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """The report with a `request_id`: a phone's JSON is answered only where it asks."""
    return {**report, "request_id": "00010203-0405-0607-0809-0a0b0c0d0e0f"}


def greeting_bytes() -> int:
    """Bytes of the first message that a phone hears: `connection_established` with its 19 settings."""
    return len(say(True, PayloadKind.JSON, UUID, ConnectionEstablished(settings=PhoneSettings())))
