"""What a phone is told about its thresholds and limits (seed 000 §3.1): 19 keys, exactly these names."""

import msgspec


class PhoneSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one phone, as `connection_established` carries them. Defaults are those that the seed prints (T-10)."""

    battery_low_threshold: int = 20
    """Percent."""
    error_count_threshold: int = 5
    offline_threshold_minutes: int = 5
    signal_low_threshold: int = 2
    """Bars, 0 to 4."""
    low_balance_threshold: str = "10.00"
    """In the currency of the SIM; a string, as the seed has it."""
    enable_battery_alarms: bool = True
    enable_error_alarms: bool = True
    enable_offline_alarms: bool = True
    enable_signal_alarms: bool = True
    enable_sim_balance_alarms: bool = True
    auto_disable_sim_on_alarm: bool = False
    sim1_daily_sms_limit: int = 100
    sim1_monthly_sms_limit: int = 1000
    sim2_daily_sms_limit: int = 100
    sim2_monthly_sms_limit: int = 1000
    enable_sms_limits: bool = False
    sms_limit_reset_hour: int = 0
    """Hour of the day, 0 to 23, in the zone of the gateway."""
    sim1_guard_interval: int = 1
    """Seconds between two SMS of SIM 1 (C-30)."""
    sim2_guard_interval: int = 1
