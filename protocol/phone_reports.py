"""What phones say to the server (seed 000 §4, T-17 to T-35), and the additive `rcs_log` (C-25).

Required are only the fields without which a message means nothing (CONTRACT.md §3). A field that is there must have its type and
one of its words; null stands for an absent one. Fields that are not named here are kept, in `PhoneReport.raw`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from protocol.errors import InvalidFormat
from protocol.fields import AlarmType, IdText, Int32, InvalidField, MessageType, Millis, Name, read_fields

SIM_CARDS_MAX: Final = 8
"""Cards in one heartbeat. Phones have one or two; what a heartbeat says is kept in memory, so there is a bound."""
MMS_PARTS_MAX: Final = 128
TYPE_CHARS_SHOWN_MAX: Final = 64
"""Of a `type` that is not ours, so much is told back."""

SentStatus = Literal["sent", "failed", "delivered"]
Severity = Literal["warning", "error", "critical"]


class _Timed(msgspec.Struct, frozen=True, kw_only=True):
    """A report about something that has a time of its own."""

    timestamp: Millis | None = None


class _Placed(_Timed, frozen=True, kw_only=True):
    """One that says, too, where the phone stands."""

    device_group: Name | None = None
    sitename: Name | None = None


class DeviceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The phone's make, and where it stands (T-17)."""

    manufacturer: Name | None = None
    model: Name | None = None
    android_version: Name | None = None
    device_id: IdText | None = None
    sitename: Name | None = None
    device_group: Name | None = None


class SimCard(msgspec.Struct, frozen=True, kw_only=True):
    """One SIM of a phone (T-18)."""

    slot_index: Int32
    carrier_name: Name | None = None
    phone_number: Name | None = None
    network_mcc: Name | None = None
    network_mnc: Name | None = None
    is_active: bool | None = None
    imei: IdText | None = None
    """Empty where Android keeps it from the app; so are the two below."""
    imsi: IdText | None = None
    iccid: IdText | None = None
    signal_strength: Int32 | None = None
    """Bars, 0 to 4."""
    signal_dbm: Int32 | None = None
    """Android says 2147483647 where it does not know."""
    network_type: Name | None = None


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """WGS 84 degrees."""

    latitude: float
    longitude: float


class HeartbeatData(msgspec.Struct, frozen=True, kw_only=True):
    """Every 30 s: battery, signal, SIMs, place; any part of it (T-17)."""

    device_info: DeviceInfo | None = None
    battery_level: Int32 | None = None
    """Percent."""
    battery_status: Name | None = None
    signal_strength: Int32 | None = None
    """Bars, 0 to 4."""
    signal_dbm: Int32 | None = None
    network_type: Name | None = None
    sim_cards: Annotated[list[SimCard], Meta(max_length=SIM_CARDS_MAX)] | None = None
    location: Location | None = None


class DeviceStatusData(_Placed, frozen=True, kw_only=True):
    """The condition that the phone gives itself (T-19)."""

    status: Literal["online", "offline", "error", "maintenance"]
    details: dict[str, Any] | None = None


class AlarmData(_Placed, frozen=True, kw_only=True):
    """A threshold was crossed, or something is blocked (T-20)."""

    alarm_type: AlarmType
    message: str | None = None
    severity: Severity | None = None
    sim_slot: Int32 | None = None
    """Additive: which SIM it is of."""
    cleared: bool | None = None
    """Additive: it is over."""


class SmsLogData(_Placed, frozen=True, kw_only=True):
    """What became of a `send_sms` (T-21). The seed's has no id; a phone that knows it may say it (C-24)."""

    phone_number: Name
    status: SentStatus
    sim_slot: Int32 | None = None
    message: str | None = None
    message_id: IdText | None = None
    segments: Int32 | None = None
    error_code: Int32 | None = None


class SmsMessageData(_Placed, frozen=True, kw_only=True):
    """An SMS that came in or went out (T-22)."""

    phone_number: Name
    message: str
    direction: Literal["received", "sent"]
    sim_slot: Int32 | None = None
    formatted_timestamp: Name | None = None
    """For people. It names no time zone: `timestamp` is the truth (C-32)."""


class SmsDeliveryReportData(_Placed, frozen=True, kw_only=True):
    """What the network says became of an SMS (T-23). Names the message, or at least the number."""

    status: Literal["delivered", "failed", "pending"]
    phone_number: Name | None = None
    message_id: IdText | None = None
    sim_slot: Int32 | None = None


class UssdResponseData(_Timed, frozen=True, kw_only=True):
    """The network answered a USSD code (T-24)."""

    response: str
    session_id: IdText | None = None
    message_id: IdText | None = None
    cleaned_response: str | None = None
    status: Literal["RESPONSE_RECEIVED"] | None = None
    is_menu: bool | None = None
    auto_cancel: bool | None = None


class UssdResponseFailedData(_Timed, frozen=True, kw_only=True):
    """A USSD code failed (T-25), or timed out: code 5 with status TIMEOUT (C-26)."""

    session_id: IdText | None = None
    message_id: IdText | None = None
    ussd_code: Name | None = None
    sim_slot: Int32 | None = None
    failure_code: Int32 | None = None
    """T-39: -1 failed or cancelled, 1 network, 2 invalid code, 3 service, 4 SIM, 5 timeout, 6 user, 7 busy, 8 invalid string. With any
    other it failed all the same: later versions of Android may have more."""
    error_message: str | None = None
    status: Literal["FAILED", "TIMEOUT"] | None = None


class MmsPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of an MMS, without its content (T-26)."""

    content_type: Name | None = None
    content_id: Name | None = None
    file_name: Name | None = None
    data_size: Annotated[int, Meta(ge=0, le=2**53 - 1)] | None = None
    """Bytes."""


class MmsReceivedData(_Placed, frozen=True, kw_only=True):
    """An MMS came in (T-26)."""

    sender: Name
    subject: str | None = None
    parts_count: Int32 | None = None
    sim_slot: Int32 | None = None
    parts: Annotated[list[MmsPart], Meta(max_length=MMS_PARTS_MAX)] | None = None


class RcsReceivedData(_Placed, frozen=True, kw_only=True):
    """An RCS message came in (T-27)."""

    sender: Name
    message: str | None = None
    message_type: MessageType | None = None
    sim_slot: Int32 | None = None


class RcsLogData(_Placed, frozen=True, kw_only=True):
    """What became of a `send_rcs`; the seed has no such report (C-25)."""

    phone_number: Name
    status: SentStatus | Literal["read"]
    """Additive: `read`, after `delivered` or instead of it."""
    sim_slot: Int32 | None = None
    message: str | None = None
    message_type: MessageType | None = None
    message_id: IdText | None = None
    delivery_report: bool | None = None
    """Whether `failed` is the network's word on what was sent, not the phone's that it could not send."""
    error_code: Int32 | None = None


class UssdCodeData(_Placed, frozen=True, kw_only=True):
    """An SMS came in that holds a USSD code (T-28)."""

    ussd_code: Name
    sender: Name | None = None
    sim_slot: Int32 | None = None


class FindDeviceSuccessData(_Timed, frozen=True, kw_only=True):
    """The phone rings (T-29)."""

    message: str | None = None
    status: Literal["success"] | None = None


class FindDeviceFailedData(_Timed, frozen=True, kw_only=True):
    """The phone does not ring (T-30)."""

    message: str | None = None
    status: Literal["failed"] | None = None
    error: str | None = None


class AlarmStartedData(_Timed, frozen=True, kw_only=True):
    """The alarm sounds (T-31)."""

    alarm_type: AlarmType | None = None
    message: str | None = None
    status: Literal["started"] | None = None


class AlarmFailedData(_Timed, frozen=True, kw_only=True):
    """The alarm does not sound (T-32)."""

    alarm_type: AlarmType | None = None
    message: str | None = None
    status: Literal["failed"] | None = None
    error: str | None = None


class AlarmStoppedData(_Timed, frozen=True, kw_only=True):
    """The alarm is silent (T-33)."""

    status: Literal["stopped"] | None = None


class AlarmStopFailedData(_Timed, frozen=True, kw_only=True):
    """The alarm goes on (T-34)."""

    status: Literal["failed"] | None = None
    error: str | None = None


class UssdCancelledData(_Timed, frozen=True, kw_only=True):
    """A USSD session was ended, as menus are unless told otherwise (T-35, C-26)."""

    session_id: IdText | None = None
    message_id: IdText | None = None
    ussd_code: Name | None = None
    sim_slot: Int32 | None = None
    status: Literal["CANCELLED"] | None = None
    reason: Name | None = None


ReportData = (
    HeartbeatData
    | DeviceStatusData
    | AlarmData
    | SmsLogData
    | SmsMessageData
    | SmsDeliveryReportData
    | UssdResponseData
    | UssdResponseFailedData
    | MmsReceivedData
    | RcsReceivedData
    | RcsLogData
    | UssdCodeData
    | FindDeviceSuccessData
    | FindDeviceFailedData
    | AlarmStartedData
    | AlarmFailedData
    | AlarmStoppedData
    | AlarmStopFailedData
    | UssdCancelledData
)

D = TypeVar("D")


class _Envelope(msgspec.Struct, Generic[D], frozen=True, kw_only=True):
    """A report as it is sent: `{type, timestamp?, message_id?, request_id?, data}`."""

    data: D
    timestamp: Millis | None = None
    message_id: IdText | None = None
    request_id: IdText | None = None


_SHAPES: Final[Mapping[str, type[_Envelope[Any]]]] = {
    "heartbeat": _Envelope[HeartbeatData],
    "device_status": _Envelope[DeviceStatusData],
    "alarm": _Envelope[AlarmData],
    "sms_log": _Envelope[SmsLogData],
    "sms_message": _Envelope[SmsMessageData],
    "sms_delivery_report": _Envelope[SmsDeliveryReportData],
    "ussd_response": _Envelope[UssdResponseData],
    "ussd_response_failed": _Envelope[UssdResponseFailedData],
    "mms_received": _Envelope[MmsReceivedData],
    "rcs_received": _Envelope[RcsReceivedData],
    "rcs_log": _Envelope[RcsLogData],
    "ussd_code": _Envelope[UssdCodeData],
    "find_device_success": _Envelope[FindDeviceSuccessData],
    "find_device_failed": _Envelope[FindDeviceFailedData],
    "alarm_started": _Envelope[AlarmStartedData],
    "alarm_failed": _Envelope[AlarmFailedData],
    "alarm_stopped": _Envelope[AlarmStoppedData],
    "alarm_stop_failed": _Envelope[AlarmStopFailedData],
    "ussd_cancelled": _Envelope[UssdCancelledData],
}

REPORT_TYPES: Final = frozenset(_SHAPES)
"""The JSON `type` of every report."""


class PhoneReport(msgspec.Struct, frozen=True):
    """One report: what it says, typed, and its data object as it was sent, unknown fields included."""

    type: str
    """One of REPORT_TYPES."""
    timestamp: int | None
    """What the phone's clock said: milliseconds since 1970, UTC."""
    message_id: str | None
    """The command that it answers: said beside `data`, or in it (C-23)."""
    request_id: str | None
    """Says that a phone wants its JSON message acknowledged."""
    data: ReportData
    raw: dict[str, Any]


class UnknownReport(InvalidFormat):
    """A `type` that no report has."""

    def __init__(self, name: str) -> None:
        shown = name[:TYPE_CHARS_SHOWN_MAX]
        super().__init__("unknown_type", f'"{shown}" is no message of this protocol', {"type": shown})


def read_report(message: Mapping[str, Any], at: str = "") -> PhoneReport:
    """Read one phone-to-server object. `at` is its path in the message that carries it, for frames in JSON form.

    Raises UnknownReport, and InvalidField with the path of the first field that is wrong.
    """
    name = message.get("type")
    if not isinstance(name, str):
        path = f"{at}.type".removeprefix(".")
        raise InvalidField(path, f"{path}: Expected `str`")
    shape = _SHAPES.get(name)
    if shape is None:
        raise UnknownReport(name)
    if "data" not in message:
        message = {**message, "data": {}}
    said = read_fields(message, shape, at)
    data: ReportData = said.data
    message_id = said.message_id or getattr(data, "message_id", None) or None
    if message_id is None and isinstance(data, SmsDeliveryReportData) and data.phone_number is None:
        path = f"{at}.data.message_id".removeprefix(".")
        raise InvalidField(path, f"{path}: Missing, and so is `phone_number`: one of the two must be there")
    return PhoneReport(name, said.timestamp, message_id, said.request_id, data, message["data"])
