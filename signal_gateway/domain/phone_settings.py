"""What a phone is told about its thresholds and limits (seed 000 §3.1): 19 keys, exactly these names."""

import msgspec


class PhoneSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one phone, as `connection_established` carries them. Defaults are those that the seed prints (T-10)."""

    battery_low_threshold: int = 20
    """Percent."""
    error_count_threshold: int = 5
    """Failures in a row after which the phone raises an alarm."""
    offline_threshold_minutes: int = 5
    """Minutes without contact after which a phone counts as offline."""
    signal_low_threshold: int = 2
    """Bars, 0 to 4."""
    low_balance_threshold: str = "10.00"
    """In the currency of the SIM; a string, as the seed has it."""
    enable_battery_alarms: bool = True
    """Whether a low battery raises an alarm."""
    enable_error_alarms: bool = True
    """Whether repeated failures raise an alarm."""
    enable_offline_alarms: bool = True
    """Whether lost contact raises an alarm."""
    enable_signal_alarms: bool = True
    """Whether a weak signal raises an alarm."""
    enable_sim_balance_alarms: bool = True
    """Whether a low balance raises an alarm."""
    auto_disable_sim_on_alarm: bool = False
    """Whether the phone stops using a SIM that raised an alarm."""
    sim1_daily_sms_limit: int = 100
    """SMS a day of SIM 1, where limits are enabled."""
    sim1_monthly_sms_limit: int = 1000
    """SMS a month of SIM 1, where limits are enabled."""
    sim2_daily_sms_limit: int = 100
    """SMS a day of SIM 2, where limits are enabled."""
    sim2_monthly_sms_limit: int = 1000
    """SMS a month of SIM 2, where limits are enabled."""
    enable_sms_limits: bool = False
    """Whether the daily and monthly limits hold."""
    sms_limit_reset_hour: int = 0
    """Hour of the day, 0 to 23, in the zone of the gateway."""
    sim1_guard_interval: int = 1
    """Seconds between two SMS of SIM 1 (C-30). 0 = none."""
    sim2_guard_interval: int = 1
    """Seconds between two SMS of SIM 2 (C-30). 0 = none."""
