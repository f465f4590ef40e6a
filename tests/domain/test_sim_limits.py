"""What a SIM may send: windows over changes of the clock, limits, pauses and rest."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.command import Wait
from signal_gateway.domain.sim_limits import (
    UNLIMITED,
    SimRules,
    SimUsage,
    after_failure,
    after_success,
    refunded,
    remaining,
    used,
    wait_for,
    windows,
)

ZONES = st.sampled_from(["UTC", "Europe/Istanbul", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe"])
MOMENTS = st.integers(0, 2_500_000_000_000)
NOW = 1_700_000_000_000
RULES = SimRules(limits_enabled=True, daily_max=10, monthly_max=100, guard_s=0)
OF_NOW = RULES.windows(NOW)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "zone", "reset_hour", "day", "ends"),
    [
        ("2024-01-15T00:00:00Z", "UTC", 0, "2024-01-15", "2024-01-16T00:00:00Z"),
        ("2024-01-14T23:59:59.999Z", "UTC", 0, "2024-01-14", "2024-01-15T00:00:00Z"),
        ("2024-01-15T02:59:00Z", "Europe/Istanbul", 6, "2024-01-14", "2024-01-15T03:00:00Z"),
        ("2024-01-15T03:00:00Z", "Europe/Istanbul", 6, "2024-01-15", "2024-01-16T03:00:00Z"),
        # Istanbul left summer time for good in 2016: the day of the last change forward had 23 hours
        ("2016-03-26T22:00:00Z", "Europe/Istanbul", 0, "2016-03-27", "2016-03-27T21:00:00Z"),
        ("2016-10-29T21:00:00Z", "Europe/Istanbul", 0, "2016-10-30", "2016-10-30T21:00:00Z"),
        # Berlin, 23 and 25 hours
        ("2024-03-30T23:00:00Z", "Europe/Berlin", 0, "2024-03-31", "2024-03-31T22:00:00Z"),
        ("2024-10-26T22:00:00Z", "Europe/Berlin", 0, "2024-10-27", "2024-10-27T23:00:00Z"),
        # the reset hour 2 is left out on 31 March: the day begins an hour later by the clock
        ("2024-03-31T00:59:59Z", "Europe/Berlin", 2, "2024-03-30", "2024-03-31T01:00:00Z"),
        ("2024-03-31T01:00:00Z", "Europe/Berlin", 2, "2024-03-31", "2024-04-01T00:00:00Z"),
        # the reset hour 2 comes twice on 27 October: the first one counts, the second does not begin another day
        ("2024-10-26T23:59:59Z", "Europe/Berlin", 2, "2024-10-26", "2024-10-27T00:00:00Z"),
        ("2024-10-27T00:30:00Z", "Europe/Berlin", 2, "2024-10-27", "2024-10-28T01:00:00Z"),
        ("2024-10-27T01:30:00Z", "Europe/Berlin", 2, "2024-10-27", "2024-10-28T01:00:00Z"),
        # the day began at 1:00 summer time; in the hour that repeats it stays
        ("2024-11-03T05:30:00Z", "America/New_York", 1, "2024-11-03", "2024-11-04T06:00:00Z"),
        ("2024-11-03T06:30:00Z", "America/New_York", 1, "2024-11-03", "2024-11-04T06:00:00Z"),
        ("2024-03-10T06:59:00Z", "America/New_York", 2, "2024-03-09", "2024-03-10T07:00:00Z"),
        ("2024-03-10T07:00:00Z", "America/New_York", 2, "2024-03-10", "2024-03-11T06:00:00Z"),
        # Apia had no 30 December 2011
        ("2011-12-30T09:59:59Z", "Pacific/Apia", 0, "2011-12-29", "2011-12-30T10:00:00Z"),
        ("2011-12-30T10:00:00Z", "Pacific/Apia", 0, "2011-12-31", "2011-12-31T10:00:00Z"),
    ],
)
def test_a_day_lasts_from_one_reset_hour_to_the_next(now: str, zone: str, reset_hour: int, day: str, ends: str):
    found = windows(ms(now), ZoneInfo(zone), reset_hour)

    assert (found.day, found.day_ends_at) == (day, ms(ends))


@pytest.mark.parametrize(
    ("now", "month", "ends"),
    [
        ("2024-02-29T21:00:00Z", "2024-02", "2024-03-01T03:00:00Z"),
        ("2024-03-01T02:59:00Z", "2024-02", "2024-03-01T03:00:00Z"),
        ("2024-03-01T03:00:00Z", "2024-03", "2024-04-01T03:00:00Z"),
        ("2024-12-31T12:00:00Z", "2024-12", "2025-01-01T03:00:00Z"),
        ("2025-01-31T12:00:00Z", "2025-01", "2025-02-01T03:00:00Z"),
    ],
)
def test_a_month_begins_at_the_reset_hour_of_its_first_day(now: str, month: str, ends: str):
    found = windows(ms(now), ZoneInfo("Europe/Istanbul"), 6)

    assert (found.month, found.month_ends_at) == (month, ms(ends))


@given(MOMENTS, ZONES, st.integers(0, 23))
def test_windows_follow_each_other_without_gap_or_overlap(now: int, zone_name: str, reset_hour: int):
    zone = ZoneInfo(zone_name)
    here = windows(now, zone, reset_hour)

    assert now < here.day_ends_at <= here.month_ends_at
    assert here.day.startswith(here.month)
    assert windows(here.day_ends_at - 1, zone, reset_hour) == here
    assert windows(here.day_ends_at, zone, reset_hour).day > here.day
    assert windows(here.month_ends_at - 1, zone, reset_hour).month == here.month < windows(here.month_ends_at, zone, reset_hour).month


@given(st.lists(MOMENTS, min_size=2, max_size=2), ZONES, st.integers(0, 23))
def test_later_is_never_an_earlier_window(moments: list[int], zone_name: str, reset_hour: int):
    early, late = (windows(moment, ZoneInfo(zone_name), reset_hour) for moment in sorted(moments))

    assert early <= late


@pytest.mark.parametrize(
    ("usage", "changes", "wait"),
    [
        ({}, {}, None),
        ({"day_used": 9}, {}, None),
        ({"day_used": 10}, {}, Wait("daily_limit", OF_NOW.day_ends_at)),
        ({"month_used": 100}, {}, Wait("monthly_limit", OF_NOW.month_ends_at)),
        ({"day_used": 10, "month_used": 100}, {}, Wait("monthly_limit", OF_NOW.month_ends_at)),
        ({"day_used": 10}, {"limits_enabled": False}, None),
        ({"recipients": 5}, {"recipients_max": 5}, Wait("recipients_limit", OF_NOW.month_ends_at)),
        ({"recipients": 5}, {"recipients_max": 0}, None),
        ({"disabled_reason": "sim_blocked"}, {"limits_enabled": False}, Wait("sim_disabled")),
        ({"parked_until": NOW + 1}, {"limits_enabled": False}, Wait("sim_parked", NOW + 1)),
        ({"parked_until": NOW}, {}, None),
        ({"balance": "9.99"}, {"low_balance": Decimal("10.00")}, Wait("low_balance")),
        ({"balance": "10"}, {"low_balance": Decimal("10.00")}, None),
        ({"balance": None}, {"low_balance": Decimal("10.00")}, None),
        ({"balance": "much"}, {"low_balance": Decimal("10.00")}, None),
        ({"balance": "NaN"}, {"low_balance": Decimal("10.00")}, None),
        ({"balance": "1"}, {"low_balance": None}, None),
        ({"last_sent_at": NOW - 4_999}, {"guard_s": 5}, Wait("guard_interval", NOW + 1)),
        ({"last_sent_at": NOW - 5_000}, {"guard_s": 5}, None),
        ({"last_sent_at": NOW - 1}, {"guard_s": 5, "limits_enabled": False}, Wait("guard_interval", NOW + 4_999)),
        ({"last_sent_at": NOW + 864_000_000}, {"guard_s": 5}, Wait("guard_interval", NOW + 5_000)),
    ],
)
def test_a_sim_waits_for_the_first_rule_that_holds_it(usage: dict[str, object], changes: dict[str, object], wait: Wait | None):
    kept = msgspec.structs.replace(SimUsage(day=OF_NOW.day, month=OF_NOW.month), **usage)
    rules = SimRules(**{"limits_enabled": True, "daily_max": 10, "monthly_max": 100, "guard_s": 0, **changes})  # type: ignore[arg-type]

    assert wait_for(rules, kept, 1, True, NOW) == wait


def test_what_is_no_sms_waits_only_for_rest_and_for_a_sim_that_is_off():
    full = SimUsage(day=OF_NOW.day, month=OF_NOW.month, day_used=10, month_used=100, balance="0", last_sent_at=NOW)
    rules = rules_with(low_balance=Decimal(10), guard_s=60)

    assert wait_for(rules, full, 1, True, NOW, is_sms=False) is None
    assert wait_for(rules, msgspec.structs.replace(full, disabled_reason="x"), 1, True, NOW, is_sms=False) == Wait("sim_disabled")
    assert wait_for(rules, msgspec.structs.replace(full, parked_until=NOW + 1), 1, True, NOW, is_sms=False) == Wait("sim_parked", NOW + 1)


def rules_with(**changes: object) -> SimRules:
    return SimRules(**{"limits_enabled": True, "daily_max": 10, "monthly_max": 100, **changes})  # type: ignore[arg-type]


def test_a_known_recipient_is_not_held_by_the_limit_of_recipients():
    usage = SimUsage(day=OF_NOW.day, month=OF_NOW.month, recipients=5)

    assert wait_for(rules_with(recipients_max=5, guard_s=0), usage, 1, False, NOW) is None


def test_a_window_that_is_over_begins_at_nothing_and_one_that_lies_ahead_goes_on():
    """A clock that is set back must not give a SIM its day again (H26)."""
    full = SimUsage(day=OF_NOW.day, month=OF_NOW.month, day_used=10, month_used=10)

    assert wait_for(RULES, full, 1, False, OF_NOW.day_ends_at - 1) == Wait("daily_limit", OF_NOW.day_ends_at)
    assert wait_for(RULES, full, 1, False, OF_NOW.day_ends_at) is None
    assert wait_for(RULES, full, 1, False, NOW - 10 * 86_400_000) is not None
    assert remaining(RULES, full, OF_NOW.day_ends_at) == 10
    assert remaining(RULES, full, OF_NOW.month_ends_at) == 10
    assert remaining(RULES, full, NOW) == 0
    assert remaining(SimRules(), full, NOW) == UNLIMITED


@given(st.lists(st.tuples(st.integers(0, 40 * 86_400_000), st.integers(1, 4)), max_size=60))
def test_no_window_is_ever_given_more_than_its_limit(sends: list[tuple[int, int]]):
    usage, sent = SimUsage(), dict[str, int]()
    for after_ms, units in sorted(sends):
        now = NOW + after_ms
        if wait_for(RULES, usage, units, False, now) is not None:
            continue
        of_now = windows(now, UTC, 0)
        usage = used(usage, of_now, units, False, now)
        for window in (of_now.day, of_now.month):
            sent[window] = sent.get(window, 0) + units
        assert (usage.day_used, usage.month_used) == (sent[of_now.day], sent[of_now.month])
    assert all(count <= (100 if len(window) == 7 else 10) for window, count in sent.items())


def test_what_was_not_sent_is_given_back_to_its_own_windows_only():
    usage = used(SimUsage(), OF_NOW, 3, True, NOW)
    next_day = RULES.windows(OF_NOW.day_ends_at)

    back = refunded(usage, 3, OF_NOW)
    rolled = refunded(used(usage, next_day, 2, False, OF_NOW.day_ends_at), 3, OF_NOW)

    assert (back.day_used, back.month_used) == (0, 0)
    assert (rolled.day_used, rolled.month_used) == (2, 2)
    assert refunded(back, 3, OF_NOW).day_used == 0


def test_a_sim_rests_ever_longer_and_one_success_ends_it():
    usage, rests = SimUsage(), list[int | None]()
    for _ in range(7):
        usage = after_failure(usage, NOW, 3, 300, 3600)
        rests.append(None if usage.parked_until is None else (usage.parked_until - NOW) // 1000)

    assert rests == [None, None, 300, 600, 1200, 2400, 3600]
    assert usage.parked_reason == "carrier_errors"
    assert after_success(usage) == SimUsage()
    assert after_success(SimUsage(day="x")) == SimUsage(day="x")


def test_a_rest_stays_finite_after_ever_so_many_failures():
    usage = SimUsage(failures=1_000_000)

    assert after_failure(usage, NOW, 3, 300, 3600).parked_until == NOW + 3_600_000


@pytest.mark.parametrize(("count", "units"), [("segments", [1, 1, 3]), ("messages", [1, 1, 1])])
def test_parts_or_messages_are_counted(count: str, units: list[int]):
    rules = rules_with(count=count)

    assert [rules.units(segments) for segments in (None, 1, 3)] == units
