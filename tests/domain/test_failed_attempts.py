"""How often somebody may be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.failed_attempts import FailedAttempts, counted_address


def test_the_limit_holds_in_a_sliding_window():
    attempts = FailedAttempts(limit=3, window_s=60, entries_max=10)
    for at in (0, 10, 20):
        assert attempts.wait_s("a", at) == 0.0
        attempts.add("a", at)

    assert [attempts.wait_s("a", at) for at in (20, 59, 60)] == [40.0, 1.0, 0.0]
    assert attempts.wait_s("b", 20) == 0.0
    attempts.add("a", 60)
    assert attempts.wait_s("a", 60) == 10.0


def test_a_limit_of_zero_is_unlimited_and_keeps_nothing():
    attempts = FailedAttempts(limit=0, window_s=60, entries_max=10)
    attempts.add("a", 0)

    assert (attempts.wait_s("a", 0), len(attempts)) == (0.0, 0)


def test_the_table_forgets_what_is_old_and_then_the_oldest():
    attempts = FailedAttempts(limit=1, window_s=60, entries_max=10)
    for number in range(25):
        attempts.add(number, number)
    assert (len(attempts), attempts.forgotten) == (10, 15)
    assert [attempts.wait_s(number, 25) > 0 for number in (14, 15)] == [False, True]

    for number in range(100, 110):
        attempts.add(number, 200)
    assert (len(attempts), attempts.forgotten) == (10, 15)


@given(st.lists(st.floats(0, 5), max_size=80), st.integers(1, 6))
def test_never_more_than_the_limit_within_any_window(gaps: list[float], limit: int):
    attempts = FailedAttempts(limit, window_s=60, entries_max=10)
    failed_at: list[float] = []
    now = 0.0
    for gap in gaps:
        now += gap * 10
        if attempts.wait_s("a", now) == 0.0:
            attempts.add("a", now)
            failed_at.append(now)

    for start in failed_at:
        assert sum(start <= at < start + 59.999 for at in failed_at) <= limit


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix socket", "unix socket"),
    ],
)
def test_an_ipv6_host_is_counted_by_its_network(address: str, counted: str):
    assert counted_address(address) == counted
