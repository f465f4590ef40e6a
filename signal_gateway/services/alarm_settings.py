"""Section `[alarms]`: how far things must get better before an alarm is over, and how often they may fail before one begins."""

import msgspec


class AlarmsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[alarms]`. The thresholds themselves are settings of the phones."""

    battery_clear_percent: int = 5
    """Percent above its threshold at which a low battery is well again."""
    signal_clear_bars: int = 1
    """Bars at or above its threshold at which a weak signal is well again: 1 = the threshold itself."""
    balance_clear_percent: int = 10
    """Percent of its threshold above it at which a low balance is well again."""
    blocked_after: int = 5
    """Failures in a row of one SIM's SMS, or of its USSD codes, after which these count as blocked; 0 = never."""
    sims_remembered_max: int = 200_000
    """SIMs whose subscriber is remembered; one forgotten beyond it is looked up again."""

    def __post_init__(self) -> None:
        not_below_0 = ("battery_clear_percent", "signal_clear_bars", "balance_clear_percent", "blocked_after")
        if any(getattr(self, name) < 0 for name in not_below_0) or self.sims_remembered_max < 1:
            raise ValueError(f"{', '.join(not_below_0)} must not be below 0, sims_remembered_max must be above 0")
