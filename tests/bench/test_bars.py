"""The arithmetic of ratios, medians and bars, on numbers that were made up."""

import pytest

from bench.bars import Bar, Verdict, judge, medians, worse


def runs(**cases: list[float]) -> dict[str, list[dict[str, float]]]:
    return {name: [{"cpu_us": value} for value in values] for name, values in cases.items()}


def test_a_ratio_is_taken_within_its_round_and_the_median_of_the_rounds_counts():
    measured = runs(ours=[10, 20, 30, 12, 100], theirs=[5, 20, 10, 6, 10])
    (verdict,) = judge([Bar("ours", against="theirs", times=2)], measured)
    assert list(verdict.values) == [2, 1, 3, 2, 10]
    assert verdict.value == 2
    assert verdict.is_reached


def test_a_difference_is_ours_less_theirs():
    (verdict,) = judge([Bar("tls", against="plain", plus=4)], runs(tls=[15, 17, 14], plain=[10, 11, 11]))
    assert (list(verdict.values), verdict.value, verdict.is_reached) == ([5, 6, 3], 5, False)


def test_an_absolute_bar_looks_at_the_figure_itself():
    (verdict,) = judge([Bar("ours", "link_kib", limit=26)], {"ours": [{"link_kib": 25.5}, {"link_kib": 26.5}, {"link_kib": 26.0}]})
    assert (verdict.value, verdict.is_reached) == (26, True)


@pytest.mark.parametrize(
    ("is_strict", "value", "reached"), [(False, 1.0, True), (True, 1.0, False), (True, 0.99, True), (False, 1.01, False)]
)
def test_a_strict_bar_is_missed_at_its_own_height(is_strict: bool, value: float, reached: bool):
    assert Verdict(Bar("ours", against="theirs", times=1, is_strict=is_strict), [value]).is_reached is reached


@pytest.mark.parametrize("missing", ["ours", "theirs"])
def test_a_bar_is_missed_when_either_side_was_not_measured(missing: str):
    measured = runs(ours=[1], theirs=[100])
    del measured[missing]
    (verdict,) = judge([Bar("ours", against="theirs", times=2)], measured)
    assert (verdict.value, verdict.is_reached) == (None, False)


def test_rounds_that_only_one_side_has_are_left_out():
    (verdict,) = judge([Bar("ours", against="theirs", times=2)], runs(ours=[10, 30, 50], theirs=[10, 10]))
    assert list(verdict.values) == [1, 3]


def test_medians_are_taken_of_the_figures_that_every_round_has():
    assert medians([{"cpu_us": 1, "p99_ms": 5}, {"cpu_us": 9, "p99_ms": 6}, {"cpu_us": 2}]) == {"cpu_us": 2}
    assert medians([]) == {}


def test_only_what_got_more_than_a_tenth_worse_is_told():
    before = {"a": 1.0, "b": 1.0, "c": 1.0, "gone": 1.0}
    assert worse({"a": 1.09, "b": 1.12, "c": 0.5, "new": 9.0}, before) == {"b": (1.0, 1.12)}


def test_a_bar_says_what_it_asks_for():
    bars = [
        Bar("ours", against="theirs", times=2.2),
        Bar("ours", against="theirs", times=1, is_strict=True),
        Bar("ours", "p99_ms", "theirs", times=1.25),
        Bar("ours", against="theirs", plus=4),
        Bar("ours", "link_kib", limit=26),
    ]
    assert [bar.text for bar in bars] == ["≤ 2.2 x", "< 1 x", "≤ 1.25 x ms p99", "≤ + 4 µs CPU", "≤ 26 KiB"]
