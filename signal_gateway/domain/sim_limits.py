"""What a SIM may send, and what it has sent: windows of a day and a month, pauses, balance, rest (T-43 to T-46, C-29 to C-31).

A wall clock may be wrong (H26). Set back a little, it frees nothing: the window that was counted last goes on until the clock has left it.
What lies further ahead was counted by a clock that was wrong: its count moves into the window of now, or it would hold for years.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from signal_gateway.domain.command import Wait
from signal_gateway.domain.money import decimal_of

UNLIMITED = 1_000_000_000
"""What is left where no limit holds."""


RECIPIENTS_LIMIT = "recipients_limit"
OWN = frozenset({"exceeds_daily_limit", "exceeds_monthly_limit", RECIPIENTS_LIMIT})
"""Reasons of one SMS, not of its SIM, which may send others meanwhile: it has more parts than may be sent in a whole day, or month, and
waits until the limit is another; or it goes to a number that is one too many."""
SWITCHED_OFF_FOR_BALANCE = "sim_balance_low"
"""A SIM that was switched off for this may still dial: no other way leads to a better balance."""


class Windows(NamedTuple):
    """The day and the month that a moment belongs to. Names sort as the windows follow each other; ends are milliseconds since 1970."""

    day: str
    day_ends_at: int
    month: str
    month_ends_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SimRules:
    """The limits of one SIM."""

    zone: tzinfo = UTC
    reset_hour: int = 0
    """Hour at which days, and on the first of it months, begin."""
    limits_enabled: bool = False
    """Whether the daily, monthly and recipients' limits hold (T-44). The others always do."""
    daily_max: int = 100
    monthly_max: int = 1000
    recipients_max: int = 0
    """Distinct numbers a month; 0 = no limit."""
    guard_s: int = 1
    """Seconds between two SMS (C-30)."""
    low_balance: Decimal | None = None
    """Below it nothing is sent, where the balance is known; None: it is not looked at."""
    count: Literal["segments", "messages"] = "segments"
    park_after: int = 3
    park_s: float = 300.0
    park_max_s: float = 3600.0

    def windows(self, now_ms: int) -> Windows:
        """The windows of this moment."""
        return windows(now_ms, self.zone, self.reset_hour)

    def units(self, segments: int | None) -> int:
        """What a message of so many parts counts."""
        return 1 if self.count == "messages" else max(1, segments or 1)


class SimUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What one SIM has used."""

    day: str = ""
    day_used: int = 0
    month: str = ""
    month_used: int = 0
    recipients: int = 0
    """Distinct numbers of the month."""
    last_sent_at: int | None = None
    balance: str | None = None
    balance_at: int | None = None
    parked_until: int | None = None
    parked_reason: str | None = None
    failures: int = 0
    """In a row, of the SIM or its carrier."""
    disabled_reason: str | None = None


def windows(now_ms: int, zone: tzinfo, reset_hour: int) -> Windows:
    """The daily and the monthly window of a moment. A day lasts as long as its zone's clock takes from one reset hour to the next."""
    local = datetime.fromtimestamp(now_ms / 1000, zone)
    begun = local if local.hour >= reset_hour else local - timedelta(days=1)
    day = begun.date()
    if now_ms >= _moment(day + timedelta(days=1), reset_hour, zone):  # the hour came twice, or not at all, when the clock was changed
        day += timedelta(days=1)
    elif now_ms < _moment(day, reset_hour, zone):
        day -= timedelta(days=1)
    return _windows_of_day(day, reset_hour, zone)


def wait_for(rules: SimRules, usage: SimUsage, units: int, is_new_recipient: bool, now_ms: int, *, is_sms: bool = True) -> Wait | None:
    """Why a SIM may not send now; None when it may. What is no SMS waits only for a SIM that rests, or is switched off for another reason
    than its balance."""
    if usage.disabled_reason is not None and (is_sms or usage.disabled_reason != SWITCHED_OFF_FOR_BALANCE):
        return Wait("sim_disabled")
    if usage.parked_until is not None and usage.parked_until > now_ms:
        return Wait("sim_parked", usage.parked_until)
    if not is_sms:
        return None
    if rules.low_balance is not None and (balance := decimal_of(usage.balance)) is not None and balance < rules.low_balance:
        return Wait("low_balance")
    if rules.limits_enabled and (wait := _limit(rules, usage, units, is_new_recipient, now_ms)) is not None:
        return wait
    if usage.last_sent_at is not None and usage.last_sent_at - now_ms <= 1000 * rules.guard_s:  # what is further ahead is no time that was
        free_at = usage.last_sent_at + 1000 * rules.guard_s
        if free_at > now_ms:
            return Wait("guard_interval", free_at)
    return None


def used(usage: SimUsage, of_now: Windows, units: int, is_new_recipient: bool, now_ms: int) -> SimUsage:
    """After one more was sent."""
    rolled = _rolled(usage, of_now)
    return msgspec.structs.replace(
        rolled,
        day_used=rolled.day_used + units,
        month_used=rolled.month_used + units,
        recipients=rolled.recipients + is_new_recipient,
        last_sent_at=now_ms,
    )


def refunded(usage: SimUsage, units: int, of_then: Windows, gives_recipient: bool = False) -> SimUsage:
    """After what was counted in these windows turned out not to have been sent, to a number that nothing else went to or to any."""
    is_month = usage.month == of_then.month
    return msgspec.structs.replace(
        usage,
        day_used=max(0, usage.day_used - units) if usage.day == of_then.day else usage.day_used,
        month_used=max(0, usage.month_used - units) if is_month else usage.month_used,
        recipients=max(0, usage.recipients - gives_recipient) if is_month else usage.recipients,
    )


def after_failure(usage: SimUsage, now_ms: int, park_after: int, park_s: float, park_max_s: float) -> SimUsage:
    """After the SIM or its carrier refused: from the `park_after`-th in a row on it rests, ever longer."""
    failures = usage.failures + 1
    if failures < park_after:
        return msgspec.structs.replace(usage, failures=failures)
    rest_s = min(park_s * 2 ** min(failures - park_after, 30), park_max_s)
    return msgspec.structs.replace(usage, failures=failures, parked_until=now_ms + round(1000 * rest_s), parked_reason="carrier_errors")


def after_success(usage: SimUsage) -> SimUsage:
    """After it worked."""
    if usage.failures == 0 and usage.parked_until is None:
        return usage
    return msgspec.structs.replace(usage, failures=0, parked_until=None, parked_reason=None)


def remaining(rules: SimRules, usage: SimUsage, now_ms: int) -> int:
    """How many units it may still send, by the nearest of its limits; without limits the less it has sent this month, the more."""
    rolled = _rolled(usage, rules.windows(now_ms))
    if not rules.limits_enabled:
        return UNLIMITED - rolled.month_used
    return max(0, min(rules.daily_max - rolled.day_used, rules.monthly_max - rolled.month_used))


def _limit(rules: SimRules, usage: SimUsage, units: int, is_new_recipient: bool, now_ms: int) -> Wait | None:
    of_now = rules.windows(now_ms)
    rolled = _rolled(usage, of_now)
    if units > rules.monthly_max:
        return Wait("exceeds_monthly_limit")
    if units > rules.daily_max:
        return Wait("exceeds_daily_limit")
    if rolled.month_used + units > rules.monthly_max:
        return Wait("monthly_limit", of_now.month_ends_at)
    if is_new_recipient and rules.recipients_max and rolled.recipients >= rules.recipients_max:
        return Wait(RECIPIENTS_LIMIT, of_now.month_ends_at)
    if rolled.day_used + units > rules.daily_max:
        return Wait("daily_limit", of_now.day_ends_at)
    return None


def _rolled(usage: SimUsage, of_now: Windows) -> SimUsage:
    """As it counts now: a window that is over begins at nothing, the next one goes on, and one beyond that is made this one."""
    if usage.day == of_now.day and usage.month == of_now.month:
        return usage
    is_new_day, is_new_month = usage.day < of_now.day, usage.month < of_now.month
    takes_day = is_new_day or _day_number(usage.day) > _day_number(of_now.day) + 1
    takes_month = is_new_month or _month_number(usage.month) > _month_number(of_now.month) + 1
    return msgspec.structs.replace(
        usage,
        day=of_now.day if takes_day else usage.day,
        day_used=0 if is_new_day else usage.day_used,
        month=of_now.month if takes_month else usage.month,
        month_used=0 if is_new_month else usage.month_used,
        recipients=0 if is_new_month else usage.recipients,
    )


def _day_number(day: str) -> int:
    return date.fromisoformat(day).toordinal()


def _month_number(month: str) -> int:
    return 12 * int(month[:4]) + int(month[5:])


@lru_cache(maxsize=1024)
def _windows_of_day(day: date, reset_hour: int, zone: tzinfo) -> Windows:
    after = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    ends_at = _moment(day + timedelta(days=1), reset_hour, zone)
    return Windows(day.isoformat(), ends_at, f"{day:%Y-%m}", _moment(after, reset_hour, zone))


@lru_cache(maxsize=4096)
def _moment(day: date, hour: int, zone: tzinfo) -> int:
    """When this hour of this day comes; one that the clock leaves out, when it is changed, comes an hour later."""
    local = datetime(day.year, day.month, day.day, hour, tzinfo=zone)
    return round(local.timestamp() * 1000)
