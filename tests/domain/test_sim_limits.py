"""What a SIM may still send: windows by local days, counts that never pass a limit, and clocks that are wrong."""

import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from signal_gateway.domain.command import Wait
from signal_gateway.domain.money import decimal_of, is_below
from signal_gateway.domain.sim_limits import (
    UNLIMITED,
    SimRules,
    SimUsage,
    Windows,
    after_failure,
    after_success,
    refunded,
    remaining,
    used,
    wait_for,
    windows,
)

HOUR = 3_600_000
DAY = 24 * HOUR
ISTANBUL, BERLIN, NEW_YORK, APIA = (ZoneInfo(name) for name in ("Europe/Istanbul", "Europe/Berlin", "America/New_York", "Pacific/Apia"))
TROLL = ZoneInfo("Antarctica/Troll")
ZONES = [
    TROLL,
    ISTANBUL,
    BERLIN,
    NEW_YORK,
    APIA,
    ZoneInfo("UTC"),
    ZoneInfo("America/Havana"),
    ZoneInfo("America/Sao_Paulo"),
    ZoneInfo("Asia/Kathmandu"),
]


def ms(text: str) -> int:
    """Milliseconds of an ISO time with its offset."""
    return int(datetime.datetime.fromisoformat(text).timestamp() * 1000)


def rules(**changes: object) -> SimRules:
    given_rules: dict[str, object] = {
        "limits_enabled": True,
        "daily_max": 10,
        "monthly_max": 100,
        "guard_s": 0,
        "reset_hour": 0,
        "zone": ISTANBUL,
    }
    return SimRules(**(given_rules | changes))  # type: ignore[arg-type]


NOON = ms("2024-05-15T12:00:00+03:00")


@pytest.mark.parametrize(
    ("zone", "reset_hour", "at", "day", "ends", "month", "month_ends"),
    [
        (ISTANBUL, 0, "2024-05-31T23:59:59.999+03:00", "2024-05-31", "2024-06-01T00:00+03:00", "2024-05", "2024-06-01T00:00+03:00"),
        (ISTANBUL, 0, "2024-06-01T00:00:00+03:00", "2024-06-01", "2024-06-02T00:00+03:00", "2024-06", "2024-07-01T00:00+03:00"),
        # Before the reset hour it is still yesterday, and on the first still last month.
        (ISTANBUL, 6, "2024-06-01T05:59:59+03:00", "2024-05-31", "2024-06-01T06:00+03:00", "2024-05", "2024-06-01T06:00+03:00"),
        (ISTANBUL, 6, "2024-01-01T05:00:00+03:00", "2023-12-31", "2024-01-01T06:00+03:00", "2023-12", "2024-01-01T06:00+03:00"),
        # A day of 23 hours, and one of 25.
        (BERLIN, 0, "2024-03-31T12:00+02:00", "2024-03-31", "2024-04-01T00:00+02:00", "2024-03", "2024-04-01T00:00+02:00"),
        (BERLIN, 0, "2024-10-27T00:00+02:00", "2024-10-27", "2024-10-28T00:00+01:00", "2024-10", "2024-11-01T00:00+01:00"),
        # 02:00 does not exist on 31 March: the day begins when the clocks have skipped it, at 03:00.
        (BERLIN, 2, "2024-03-31T01:59:59+01:00", "2024-03-30", "2024-03-31T03:00+02:00", "2024-03", "2024-04-01T02:00+02:00"),
        (BERLIN, 2, "2024-03-31T03:00+02:00", "2024-03-31", "2024-04-01T02:00+02:00", "2024-03", "2024-04-01T02:00+02:00"),
        # 02:00 comes twice on 27 October: the first one counts, and the second is in the same day.
        (BERLIN, 2, "2024-10-27T02:00+02:00", "2024-10-27", "2024-10-28T02:00+01:00", "2024-10", "2024-11-01T02:00+01:00"),
        (BERLIN, 2, "2024-10-27T02:00+01:00", "2024-10-27", "2024-10-28T02:00+01:00", "2024-10", "2024-11-01T02:00+01:00"),
        (NEW_YORK, 2, "2024-03-10T01:59:59-05:00", "2024-03-09", "2024-03-10T03:00-04:00", "2024-03", "2024-04-01T02:00-04:00"),
        # Samoa left out 30 December 2011 when it crossed the date line.
        (APIA, 0, "2011-12-29T23:59:59-10:00", "2011-12-29", "2011-12-31T00:00+14:00", "2011-12", "2012-01-01T00:00+14:00"),
        (APIA, 5, "2011-12-31T03:00+14:00", "2011-12-29", "2011-12-31T05:00+14:00", "2011-12", "2012-01-01T05:00+14:00"),
        # The clocks of Troll go back by two hours, from 03:00 to 01:00: the day that began at 02:00 does not end again.
        (TROLL, 2, "2023-10-29T01:30+00:00", "2023-10-29", "2023-10-30T02:00+00:00", "2023-10", "2023-11-01T02:00+00:00"),
        (APIA, 0, "2011-12-31T00:00+14:00", "2011-12-31", "2012-01-01T00:00+14:00", "2011-12", "2012-01-01T00:00+14:00"),
    ],
)
def test_windows_by_the_reset_hour_in_the_zone(zone: ZoneInfo, reset_hour: int, at: str, day: str, ends: str, month: str, month_ends: str):
    assert windows(ms(at), zone, reset_hour) == Windows(day, ms(ends), month, ms(month_ends))


moments = st.one_of(
    st.integers(ms("2005-01-01T00:00+00:00"), ms("2030-01-01T00:00+00:00")),
    st.builds(  # around the changes of the clocks
        lambda text, off: ms(text) + off,
        st.sampled_from(["2024-03-31T01:00+00:00", "2024-10-27T01:00+00:00", "2024-03-10T07:00+00:00", "2024-11-03T06:00+00:00"])
        | st.sampled_from(["2011-12-30T10:00+00:00", "2018-11-04T03:00+00:00", "2018-02-18T02:00+00:00", "2016-09-06T21:00+00:00"]),
        st.integers(-30 * HOUR, 30 * HOUR),
    ),
)
zones = st.sampled_from(ZONES)
hours = st.integers(0, 23)


@given(moments, zones, hours)
def test_a_window_ends_where_the_next_begins_and_only_there(at: int, zone: ZoneInfo, reset_hour: int):
    now = windows(at, zone, reset_hour)
    assert at < now.day_ends_at <= now.month_ends_at
    last, following = windows(now.day_ends_at - 1, zone, reset_hour), windows(now.day_ends_at, zone, reset_hour)
    assert (last, following.day > now.day) == (now, True)
    assert following.day_ends_at - now.day_ends_at <= 26 * HOUR  # at Troll
    assert windows(now.month_ends_at - 1, zone, reset_hour).month == now.month
    assert windows(now.month_ends_at, zone, reset_hour).month > now.month


@given(moments, st.integers(0, 40 * DAY), zones, hours)
def test_windows_never_go_back(at: int, later: int, zone: ZoneInfo, reset_hour: int):
    first, second = windows(at, zone, reset_hour), windows(at + later, zone, reset_hour)
    assert (first.day, first.month) <= (second.day, second.month)
    assert first.month == first.day[:7]


# --- limits


sends = st.lists(st.tuples(st.integers(0, 9 * HOUR), st.integers(1, 4), st.booleans(), st.booleans()), max_size=60)


@given(sends, moments, zones, hours, st.integers(1, 12), st.integers(1, 30), st.integers(0, 5))
def test_no_window_ever_has_more_than_its_limit_whatever_is_sent_when(
    sends: list[tuple[int, int, bool, bool]], at: int, zone: ZoneInfo, reset_hour: int, daily: int, monthly: int, recipients: int
):
    sim = rules(daily_max=daily, monthly_max=monthly, recipients_max=recipients, zone=zone, reset_hour=reset_hour)
    usage = SimUsage()
    days: dict[str, int] = {}
    months: dict[str, int] = {}
    new: dict[str, int] = {}
    for gap, units, is_new, failed in sends:
        at += gap
        if wait_for(sim, usage, units, is_new, at) is not None:
            continue
        now = windows(at, zone, reset_hour)
        usage = used(usage, now, units, is_new, at)
        if failed:
            usage = refunded(usage, units, now)
        else:
            days[now.day] = days.get(now.day, 0) + units
            months[now.month] = months.get(now.month, 0) + units
        new[now.month] = new.get(now.month, 0) + is_new
    assert max(days.values(), default=0) <= daily
    assert max(months.values(), default=0) <= monthly
    assert not recipients or max(new.values(), default=0) <= recipients


def test_the_daily_limit_lets_exactly_its_number_through_and_again_after_the_reset():
    sim = rules(daily_max=10, reset_hour=6)
    usage, sent, at = SimUsage(), 0, NOON
    for _ in range(100):
        if wait_for(sim, usage, 1, False, at) is None:
            usage, sent = used(usage, windows(at, ISTANBUL, 6), 1, False, at), sent + 1
    assert sent == 10
    resets_at = ms("2024-05-16T06:00+03:00")
    assert wait_for(sim, usage, 1, False, NOON) == Wait("daily_limit", resets_at)
    assert wait_for(sim, usage, 1, False, resets_at - 1) == Wait("daily_limit", resets_at)
    assert wait_for(sim, usage, 1, False, resets_at) is None


def test_parts_that_do_not_fit_any_more_wait_and_fewer_go():
    usage = SimUsage(day="2024-05-15", day_used=8, month="2024-05", month_used=8)
    assert wait_for(rules(), usage, 3, False, NOON) == Wait("daily_limit", ms("2024-05-16T00:00+03:00"))
    assert wait_for(rules(), usage, 2, False, NOON) is None


def test_the_longest_hindrance_is_told():
    full = SimUsage(day="2024-05-15", day_used=10, month="2024-05", month_used=100, recipients=5, last_sent_at=NOON, balance="9.99")
    sim = rules(recipients_max=5, guard_s=60, low_balance=Decimal("10.00"))
    june = ms("2024-06-01T00:00+03:00")
    steps: list[tuple[dict[str, Any], Wait]] = [
        ({"disabled_reason": "sim_blocked"}, Wait("sim_disabled")),
        ({"parked_until": NOON + 1}, Wait("sim_parked", NOON + 1)),
        ({}, Wait("low_balance")),
        ({"balance": "10.00"}, Wait("monthly_limit", june)),
        ({"balance": None, "month_used": 99}, Wait("recipients_limit", june)),
        ({"balance": None, "month_used": 99, "recipients": 4}, Wait("daily_limit", ms("2024-05-16T00:00+03:00"))),
        ({"balance": None, "month_used": 99, "recipients": 4, "day_used": 9}, Wait("guard_interval", NOON + 60_000)),
    ]
    for changes, expected in steps:
        assert wait_for(sim, structs.replace(full, **changes), 1, True, NOON) == expected


def test_without_limits_only_the_guard_the_balance_and_parking_hold():
    full = SimUsage(day="2024-05-15", day_used=10, month="2024-05", month_used=100, recipients=5, last_sent_at=NOON)
    sim = rules(limits_enabled=False, recipients_max=5, guard_s=60)
    assert wait_for(sim, full, 1, True, NOON + 59_999) == Wait("guard_interval", NOON + 60_000)
    assert wait_for(sim, full, 1, True, NOON + 60_000) is None


def test_what_is_no_sms_is_held_by_parking_and_disabling_alone():
    full = SimUsage(day="2024-05-15", day_used=10, month="2024-05", month_used=100, last_sent_at=NOON, balance="0")
    sim = rules(guard_s=60, low_balance=Decimal(10))
    assert wait_for(sim, full, 0, False, NOON, is_sms=False) is None
    assert wait_for(sim, SimUsage(parked_until=NOON + 5), 0, False, NOON, is_sms=False) == Wait("sim_parked", NOON + 5)
    assert wait_for(sim, SimUsage(parked_until=NOON), 0, False, NOON, is_sms=False) is None
    assert wait_for(sim, SimUsage(disabled_reason="x"), 0, False, NOON, is_sms=False) == Wait("sim_disabled")
    # Only by dialling can it become known that there is money again.
    assert wait_for(sim, SimUsage(disabled_reason="sim_balance_low"), 0, False, NOON, is_sms=False) is None
    assert wait_for(sim, SimUsage(disabled_reason="sim_balance_low"), 1, False, NOON) == Wait("sim_disabled")


def test_a_refund_reaches_only_the_windows_it_was_counted_in():
    yesterday, today = windows(NOON - DAY, ISTANBUL, 0), windows(NOON, ISTANBUL, 0)
    usage = used(used(SimUsage(), yesterday, 3, True, NOON - DAY), today, 2, False, NOON)
    assert (usage.day_used, usage.month_used, usage.recipients) == (2, 5, 1)

    back = refunded(usage, 3, yesterday)
    assert (back.day_used, back.month_used) == (2, 2)
    assert refunded(back, 5, today).day_used == 0
    assert refunded(usage, 2, windows(NOON - 40 * DAY, ISTANBUL, 0)) == usage


# --- clocks that are wrong


@given(st.integers(0, DAY), st.lists(st.integers(0, 12 * HOUR), max_size=20), hours)
def test_a_clock_set_back_by_less_than_a_day_frees_nothing(back: int, gaps: list[int], reset_hour: int):
    """Until it is again the moment at which the limit was used up, nothing more goes."""
    sim = rules(daily_max=10, reset_hour=reset_hour)
    usage = used(SimUsage(), windows(NOON, ISTANBUL, reset_hour), 10, False, NOON)
    at = NOON - back
    for gap in gaps:
        at += gap
        if at <= NOON:
            assert wait_for(sim, usage, 1, False, at) is not None
            assert remaining(sim, usage, at) == 0


def test_what_is_sent_after_a_step_back_over_midnight_still_counts_for_the_day_that_had_begun():
    sim, midnight = rules(daily_max=10, monthly_max=10), ms("2024-06-01T00:00+03:00")
    before, after = midnight - HOUR, midnight + HOUR
    usage = used(SimUsage(), windows(after, ISTANBUL, 0), 9, True, after)
    usage = used(usage, windows(before, ISTANBUL, 0), 1, True, before)

    assert (usage.day, usage.day_used, usage.month, usage.month_used) == ("2024-06-01", 10, "2024-06", 10)
    assert wait_for(sim, usage, 1, False, after) is not None


@given(st.integers(-4000, 4000), st.integers(0, 10))
def test_a_clock_that_jumps_by_days_keeps_the_count_and_stops_nobody_for_ever(days: int, used_units: int):
    sim = rules(daily_max=10, monthly_max=1000, guard_s=60)
    usage = used(SimUsage(), windows(NOON, ISTANBUL, 0), used_units, False, NOON)
    at = NOON + days * DAY
    now = windows(at, ISTANBUL, 0)
    assert remaining(sim, usage, at) == (10 if days > 0 else 10 - used_units)
    # However far it jumped, two days on the SIM sends again.
    usage = used(usage, now, 1, False, at)
    assert wait_for(sim, usage, 10, False, at + 2 * DAY) is None


def test_a_year_that_a_clock_made_up_is_forgotten_with_its_months():
    usage = SimUsage(day="2038-01-19", day_used=7, month="2038-01", month_used=50, recipients=3, last_sent_at=ms("2038-01-19T03:14+00:00"))
    assert wait_for(rules(guard_s=60), usage, 3, False, NOON) is None
    after = used(usage, windows(NOON, ISTANBUL, 0), 1, True, NOON)
    assert after == SimUsage(day="2024-05-15", day_used=8, month="2024-05", month_used=51, recipients=4, last_sent_at=NOON)


def test_the_guard_after_a_small_step_back_is_at_most_twice_as_long():
    usage = SimUsage(last_sent_at=NOON)
    sim = rules(guard_s=60)
    assert wait_for(sim, usage, 1, False, NOON - 60_000) == Wait("guard_interval", NOON + 60_000)
    assert wait_for(sim, usage, 1, False, NOON - 60_001) is None


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"daily_max": 3}, "exceeds_daily_limit"), ({"daily_max": 9, "monthly_max": 3}, "exceeds_monthly_limit"), ({"daily_max": 4}, None)],
)
def test_what_has_more_parts_than_a_whole_day_or_month_allows_waits_for_no_time(limits: dict[str, int], reason: str | None):
    wait = wait_for(rules(**limits), SimUsage(), 4, False, NOON)
    assert wait == (None if reason is None else Wait(reason))
    assert wait_for(rules(**limits, limits_enabled=False), SimUsage(), 4, False, NOON) is None


# --- parking, choosing, settings


def test_errors_in_a_row_park_a_sim_for_twice_as_long_each_time():
    usage, parked = SimUsage(), list[float | None]()
    for _ in range(7):
        usage = after_failure(usage, NOON, park_after=3, park_s=60, park_max_s=500)
        parked.append(None if usage.parked_until is None else (usage.parked_until - NOON) / 1000)
    assert parked == [None, None, 60, 120, 240, 480, 500]
    assert (usage.failures, usage.parked_reason) == (7, "carrier_errors")
    assert after_success(usage) == SimUsage()
    assert after_success(SimUsage(day_used=3)) == SimUsage(day_used=3)


def test_ten_thousand_errors_park_no_longer_than_the_longest():
    usage = SimUsage(failures=10_000)
    assert after_failure(usage, 0, park_after=3, park_s=60.0, park_max_s=3600.0).parked_until == 3_600_000
    assert after_failure(usage, 0, park_after=20_000, park_s=60, park_max_s=3600).parked_until is None


def test_what_remains_is_told_by_the_nearest_limit():
    now = windows(NOON, ISTANBUL, 0)
    usage = SimUsage(day=now.day, day_used=4, month=now.month, month_used=97)
    assert remaining(rules(), usage, NOON) == 3
    assert remaining(rules(monthly_max=1000), usage, NOON) == 6
    assert remaining(rules(daily_max=3), usage, NOON) == 0
    assert remaining(rules(limits_enabled=False), usage, NOON) == UNLIMITED - usage.month_used  # who has sent less goes first
    assert remaining(rules(), SimUsage(), NOON) == 10


def test_what_a_message_counts():
    assert [rules(count="messages").units(segments) for segments in (None, 1, 3)] == [1, 1, 1]
    assert [rules(count="segments").units(segments) for segments in (None, 1, 3)] == [1, 1, 3]


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.00", Decimal(10)), ("-1", Decimal(-1)), ("ten", None), ("NaN", None), ("sNaN", None), ("-Infinity", None), (None, None)],
)
def test_sums_of_money(text: str | None, found: Decimal | None):
    assert decimal_of(text) == found


def test_a_balance_is_compared_with_a_threshold_where_both_are_sums():
    assert [is_below(*pair) for pair in (("9.99", "10"), ("10", "10.00"), ("-5", "0"), ("NaN", "10"), ("1", "NaN"))] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert wait_for(rules(low_balance=Decimal(10)), SimUsage(balance="NaN"), 1, False, NOON) is None
