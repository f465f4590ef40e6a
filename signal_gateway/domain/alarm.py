"""Alarms of devices: nine types, three severities, and the thresholds that raise and clear them (T-51 to T-53, C-27, C-28)."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from signal_gateway.domain.command import CommandKind
from signal_gateway.domain.command_answers import SMS_PERMANENT
from signal_gateway.domain.device import DeviceStatus
from signal_gateway.domain.money import decimal_of, is_below
from signal_gateway.domain.phone_settings import PhoneSettings

CRITICAL_BATTERY_PERCENT = 5
SIM_ERROR = "sim_error"
USSD_NOT_AVAILABLE = 3
BARS_MAX = 4
SIM_SLOTS = 8
"""Slots that a phone may have. A card beyond them is not looked at: each slot has alarms and a row of its own."""


class AlarmType(StrEnum):
    """What is wrong. The first nine are the phones' (C-27); the last is ours alone."""

    BATTERY_LOW = "battery_low"
    SIGNAL_LOW = "signal_low"
    SIM_BALANCE_LOW = "sim_balance_low"
    ERROR_COUNT = "error_count"
    OFFLINE = "offline"
    SIM_BLOCKED = "sim_blocked"
    SMS_BLOCKED = "sms_blocked"
    MMS_BLOCKED = "mms_blocked"
    USSD_BLOCKED = "ussd_blocked"
    SIM_CHANGED = "sim_changed"
    """Another SIM, or another phone around it, than before."""


FLAGS: Mapping[AlarmType, str] = {
    AlarmType.BATTERY_LOW: "enable_battery_alarms",
    AlarmType.SIGNAL_LOW: "enable_signal_alarms",
    AlarmType.SIM_BALANCE_LOW: "enable_sim_balance_alarms",
    AlarmType.ERROR_COUNT: "enable_error_alarms",
    AlarmType.OFFLINE: "enable_offline_alarms",
}
"""The setting of a phone that enables alarms of a type (T-53), whoever raises them; the others have none and are always enabled."""
SIM_ALARMS = frozenset({AlarmType.SIM_BALANCE_LOW, AlarmType.SIM_BLOCKED, AlarmType.SMS_BLOCKED, AlarmType.USSD_BLOCKED})
"""Alarms of a SIM after which it is not used, where `auto_disable_sim_on_alarm` says so (T-45)."""
CLEARED_BY_PEOPLE = frozenset(
    {AlarmType.SIM_BLOCKED, AlarmType.SMS_BLOCKED, AlarmType.MMS_BLOCKED, AlarmType.USSD_BLOCKED, AlarmType.SIM_CHANGED}
)
"""It may be that nothing ever tells that these are over, so acknowledging one clears it."""


def is_enabled(alarm_type: AlarmType, settings: PhoneSettings) -> bool:
    """Whether a phone's settings want alarms of this type."""
    flag = FLAGS.get(alarm_type)
    return flag is None or bool(getattr(settings, flag))


class Severity(StrEnum):
    """How bad it is (T-52)."""

    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class AlarmKey(NamedTuple):
    """What there is one open alarm of."""

    device_id: str
    type: AlarmType
    sim_slot: int | None = None


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm, from its raising to its clearing. Times are milliseconds since 1970, UTC."""

    id: int
    device_id: str
    type: AlarmType
    severity: Severity
    sim_slot: int | None
    message: str
    source: str
    """`server`, or `device` where the device itself reported it."""
    occurrences: int
    """How often it was raised while it was open."""
    raised_at: int
    last_at: int
    acknowledged_at: int | None = None
    acknowledged_by: str | None = None
    cleared_at: int | None = None

    @property
    def key(self) -> AlarmKey:
        """What it is the alarm of."""
        return AlarmKey(self.device_id, self.type, self.sim_slot)


class Reading(NamedTuple):
    """What one value says about one alarm: it is to be raised, or cleared; between the two thresholds neither."""

    type: AlarmType
    sim_slot: int | None
    is_raised: bool
    severity: Severity = Severity.WARNING
    message: str = ""


class Hysteresis(NamedTuple):
    """How far beyond its threshold a value must come back before an alarm is cleared."""

    battery_percent: int = 5
    signal_bars: int = 1
    balance_percent: int = 10
    """Of the threshold itself."""


def readings(status: DeviceStatus, settings: PhoneSettings, hysteresis: Hysteresis) -> Iterator[Reading]:
    """What a heartbeat says about battery and signal. A value below its threshold raises; a flag that is off clears."""
    level = status.battery_level
    if level is not None:
        reading = _battery(level, settings, hysteresis.battery_percent)
        if reading is not None:
            yield reading
    bars = [(None, status.signal_strength)]
    bars += [
        (card.slot_index, card.signal_strength)
        for card in status.sim_cards or ()
        if card.is_active is not False and 0 <= card.slot_index < SIM_SLOTS
    ]
    for slot, strength in bars:
        if strength is not None and (reading := _signal(slot, strength, settings, hysteresis.signal_bars)) is not None:
            yield reading


def balance_reading(balance: str, slot: int, settings: PhoneSettings, hysteresis: Hysteresis) -> Reading | None:
    """What a balance says of its SIM; None between the two thresholds, and for what is no amount."""
    left, threshold = decimal_of(balance), decimal_of(settings.low_balance_threshold)
    if not settings.enable_sim_balance_alarms:
        return Reading(AlarmType.SIM_BALANCE_LOW, slot, False)
    if left is None or threshold is None:
        return None
    if is_below(balance, settings.low_balance_threshold):
        message = f"SIM {slot + 1} has {balance} left, below {settings.low_balance_threshold}"
        return Reading(AlarmType.SIM_BALANCE_LOW, slot, True, Severity.WARNING, message)
    if left * 100 < threshold * (100 + hysteresis.balance_percent):
        return None
    return Reading(AlarmType.SIM_BALANCE_LOW, slot, False)


def blocked_by(kind: CommandKind, error: str | None, result: Mapping[str, Any] | None) -> AlarmType | None:
    """What it says about its SIM that a command failed so, where that happens again and again; None where the SIM is not to blame."""
    if kind is CommandKind.SEND_SMS:
        is_own_fault = (result or {}).get("error_code") in SMS_PERMANENT
        return AlarmType.SMS_BLOCKED if error in ("send_failed", SIM_ERROR) and not is_own_fault else None
    if kind in (CommandKind.SEND_USSD, CommandKind.USSD_REPLY):
        is_refused = error == SIM_ERROR or (result or {}).get("failure_code") == USSD_NOT_AVAILABLE
        return AlarmType.USSD_BLOCKED if is_refused else None
    return None


def proved_by(kind: CommandKind) -> AlarmType | None:
    """Which blocked thing is not blocked, if a command of this kind succeeds."""
    return blocked_by(kind, SIM_ERROR, None)


def _battery(level: int, settings: PhoneSettings, above: int) -> Reading | None:
    threshold = settings.battery_low_threshold
    if not settings.enable_battery_alarms or level >= min(100, threshold + above):
        return Reading(AlarmType.BATTERY_LOW, None, False)
    if level >= threshold:
        return None
    severity = Severity.CRITICAL if level <= CRITICAL_BATTERY_PERCENT else Severity.WARNING
    return Reading(AlarmType.BATTERY_LOW, None, True, severity, f"battery at {level} %, below {threshold} %")


def _signal(slot: int | None, bars: int, settings: PhoneSettings, above: int) -> Reading | None:
    threshold = settings.signal_low_threshold
    if not settings.enable_signal_alarms or bars >= min(BARS_MAX, threshold + above - 1):
        return Reading(AlarmType.SIGNAL_LOW, slot, False)
    if bars >= threshold:
        return None
    severity = Severity.ERROR if bars <= 0 else Severity.WARNING
    where = "" if slot is None else f" of SIM {slot + 1}"
    return Reading(AlarmType.SIGNAL_LOW, slot, True, severity, f"signal{where} at {bars} bars, below {threshold}")
