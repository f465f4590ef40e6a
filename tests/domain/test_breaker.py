"""A breaker opens, rests, and lets one try."""

from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.breaker import Breaker, BreakerRules

RULES = BreakerRules(failures_max=3, open_s=10.0)


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    assert [breaker.failed(at_s) for _ in range(3)] == [False, False, True]
    return breaker


def test_it_opens_with_the_third_failure_in_a_row_and_tells_it_once():
    breaker = opened()
    assert breaker.state(0.0) == "open"
    assert not breaker.let_through(9.9)
    assert breaker.failed(5.0) is False


def test_a_success_in_between_begins_the_count_anew():
    breaker = Breaker(RULES)
    assert [breaker.failed(0.0), breaker.failed(0.0)] == [False, False]
    breaker.succeeded()
    assert [breaker.failed(0.0), breaker.failed(0.0)] == [False, False]
    assert breaker.let_through(0.0)


def test_after_its_rest_it_lets_one_through_and_no_other_until_that_one_has_ended():
    breaker = opened()
    assert breaker.state(10.0) == "half_open"
    assert [breaker.let_through(10.0), breaker.let_through(10.0), breaker.let_through(99.0)] == [True, False, False]
    breaker.succeeded()
    assert breaker.state(99.0) == "closed"
    assert [breaker.let_through(99.0), breaker.let_through(99.0)] == [True, True]


def test_if_that_one_fails_it_rests_again_for_the_whole_time():
    breaker = opened()
    assert breaker.let_through(10.0)
    assert breaker.failed(12.0) is False
    assert [breaker.let_through(21.9), breaker.let_through(22.0)] == [False, True]


def test_if_that_one_never_tells_the_next_may_try():
    breaker = opened()
    assert breaker.let_through(10.0)
    breaker.gave_up()
    assert breaker.let_through(10.0)


def test_what_began_before_it_opened_does_not_prolong_its_rest():
    breaker = opened(at_s=0.0)
    breaker.failed(9.0)
    assert breaker.let_through(10.0)


@given(st.lists(st.sampled_from(["ask", "succeed", "fail", "give up", "wait"]), max_size=60))
def test_whatever_happens_somebody_gets_through_within_two_rests_and_nobody_during_one(steps: list[str]):
    breaker, now_s, opened_at_s = Breaker(RULES), 0.0, None
    under_way = 0
    for step in steps:
        if step == "wait":
            now_s += 4.0
        elif step == "ask":
            got_through = breaker.let_through(now_s)
            assert not (got_through and opened_at_s is not None and now_s - opened_at_s < RULES.open_s)
            under_way += got_through
        elif under_way:
            under_way -= 1
            if step == "fail":
                opened_at_s = now_s if breaker.failed(now_s) else opened_at_s
            elif step == "succeed":
                breaker.succeeded()
                opened_at_s = None
            else:
                breaker.gave_up()
    if under_way:
        breaker.gave_up()
    assert breaker.let_through(now_s + 2 * RULES.open_s)
