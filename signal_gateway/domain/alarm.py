"""Alarms of devices: nine types, three severities, and the thresholds that raise and clear them (T-51 to T-53, C-27, C-28)."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec

from signal_gateway.domain.device import DeviceStatus
from signal_gateway.domain.phone_settings import PhoneSettings

CRITICAL_BATTERY_PERCENT = 5
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
