"""A SIM of a simulated phone: its number and balance, what it has sent, and what the phone's own settings let it send (T-10, T-43)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Any

from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.sim_limits import windows

DEFAULTS = PhoneSettings()
NETWORK_ERROR, LIMIT_EXCEEDED, SIM_ABSENT = 4, 5, 120
"""Codes of Android's SmsManager: no service, the phone's own limit, no SIM."""


@dataclass(slots=True)
class SimulatedSim:
    """One SIM. Times are milliseconds since 1970 of the phone's clock."""

    slot: int
    carrier: str
    number: str
    balance: Decimal = Decimal("12.50")
    price_per_segment: Decimal = Decimal(0)
    is_served: bool = True
    """Whether its network is there: without it nothing is sent, and the phone says so."""
    is_blocked: bool = False
    """Whether the SIM itself refuses all."""
    zone: tzinfo = UTC
    last_sent_at: int | None = None
    sent_by_day: Counter[str] = field(default_factory=Counter[str])
    """Segments, by the day of the phone's reset hour."""
    sent_by_month: Counter[str] = field(default_factory=Counter[str])

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> "SimulatedSim":
        """The SIM that a heartbeat tells of (T-18)."""
        return cls(int(card["slot_index"]), str(card["carrier_name"]), str(card["phone_number"]), is_blocked=not card["is_active"])

    def guard_left_s(self, settings: Mapping[str, Any], now_ms: int) -> float:
        """How long the phone waits before this SIM may send again (T-43, C-30)."""
        if self.last_sent_at is None:
            return 0.0
        guard_ms = 1000 * int(self._setting(settings, "guard_interval"))
        return max(0, min(self.last_sent_at, now_ms) + guard_ms - now_ms) / 1000

    def refusal(self, settings: Mapping[str, Any], segments: int, now_ms: int) -> int | None:
        """The code with which the phone refuses to send so many segments; None when they may go out."""
        if self.is_blocked:
            return SIM_ABSENT
        if not self.is_served or self.balance < segments * self.price_per_segment:
            return NETWORK_ERROR
        if settings.get("enable_sms_limits", DEFAULTS.enable_sms_limits):
            day, month = self._windows(settings, now_ms)
            over_day = self.sent_by_day[day] + segments > self._setting(settings, "daily_sms_limit")
            if over_day or self.sent_by_month[month] + segments > self._setting(settings, "monthly_sms_limit"):
                return LIMIT_EXCEEDED
        return None

    def send(self, settings: Mapping[str, Any], segments: int, now_ms: int) -> None:
        """So many segments went out now."""
        day, month = self._windows(settings, now_ms)
        self.sent_by_day[day] += segments
        self.sent_by_month[month] += segments
        self.last_sent_at = now_ms
        self.balance -= segments * self.price_per_segment

    def _windows(self, settings: Mapping[str, Any], now_ms: int) -> tuple[str, str]:
        of_now = windows(now_ms, self.zone, int(settings.get("sms_limit_reset_hour", DEFAULTS.sms_limit_reset_hour)))
        return of_now.day, of_now.month

    def _setting(self, settings: Mapping[str, Any], name: str) -> Any:
        """Slot n is sim n+1 (C-29); a third SIM has what the second has."""
        full_name = f"sim{min(self.slot, 1) + 1}_{name}"
        return settings.get(full_name, getattr(DEFAULTS, full_name))
