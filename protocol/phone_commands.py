"""What the server says to phones (seed 000 §3, T-10 to T-16), in exactly the keys and the order that the seed prints.

The same objects travel as JSON text and in frames of type COMMAND. Additive: `ussd_reply`, and `auto_cancel` of `send_ussd`
(C-26); `device_key` of `connection_established` (CONTRACT.md §3).
"""

from typing import Any, Final, Literal, get_args

import msgspec

from protocol.fields import AlarmType, Identifier, Int32, MessageType, read_fields

Priority = Literal["normal", "high", "urgent"]
"""On the wire; a low priority is said as normal (CONTRACT.md §5)."""


class ConnectionEstablished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="connection_established"):
    """First of all: the phone's settings. Sent again when they change (T-10)."""

    settings: Any
    """The object with the 19 keys of seed 000 §3.1; any Struct or mapping when said, a dict when read."""
    device_key: str | None = None
    """A key for this device alone, shown once to a phone that asked for it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"  # a log or a traceback must not show the key (H02)


class SendSmsData(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, and by which SIM."""

    sim_slot: Int32
    """0 or 1; slot n is sim(n+1) of the settings (C-29)."""
    phone_number: str
    message: str
    priority: Priority


class SendSms(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="send_sms"):
    """Send an SMS (T-11)."""

    message_id: Identifier
    data: SendSmsData


class SendUssdData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which code to dial, and how."""

    sim_slot: Int32
    ussd_code: str
    session_id: Identifier | None = None
    """Absent when no session is meant."""
    delay: Int32
    """Passed through untouched; counted as seconds where we extend a deadline (C-30)."""
    auto_cancel: bool = True
    """False keeps a menu open for `ussd_reply` (C-26); true, the way of the seed, is not written."""


class SendUssd(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="send_ussd"):
    """Dial a USSD code (T-12)."""

    message_id: Identifier
    data: SendUssdData


class UssdReplyData(msgspec.Struct, frozen=True, kw_only=True):
    """What to enter into an open session."""

    sim_slot: Int32
    session_id: Identifier
    reply: str


class UssdReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="ussd_reply"):
    """Answer a USSD menu that `auto_cancel: false` kept open (C-26)."""

    message_id: Identifier
    data: UssdReplyData


class SendRcsData(msgspec.Struct, frozen=True, kw_only=True):
    """What to send, and by which SIM."""

    sim_slot: Int32
    phone_number: str
    message: str
    message_type: MessageType


class SendRcs(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="send_rcs"):
    """Send an RCS message (T-13)."""

    message_id: Identifier
    data: SendRcsData


class FindDeviceData(msgspec.Struct, frozen=True, kw_only=True):
    """What the phone shows."""

    message: str


class FindDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="find_device"):
    """Ring, so that somebody finds the phone (T-14)."""

    message_id: Identifier | None = None
    """For agents, whose COMMAND_RESULT names it. The seed's has none, and a phone is told none; nor in the two below."""
    data: FindDeviceData


class AlarmStartData(msgspec.Struct, frozen=True, kw_only=True):
    """Which alarm, and what the phone shows."""

    alarm_type: AlarmType
    message: str


class AlarmStart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="alarm_start"):
    """Sound an alarm (T-15)."""

    message_id: Identifier | None = None
    data: AlarmStartData


class AlarmStop(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="alarm_stop"):
    """Silence it (T-16)."""

    message_id: Identifier | None = None


PhoneCommand = ConnectionEstablished | SendSms | SendUssd | UssdReply | SendRcs | FindDevice | AlarmStart | AlarmStop

COMMAND_NAMES: Final[dict[type, str]] = {command: str(command.__struct_config__.tag) for command in get_args(PhoneCommand)}
"""The JSON `type` of every command."""


def read_command(message: object) -> PhoneCommand:
    """Read one server-to-phone object, as a phone does. Raises InvalidField; an unknown `type` is one, too."""
    return read_fields(message, PhoneCommand)  # pyright: ignore[reportArgumentType] a union is no class, and msgspec takes both
