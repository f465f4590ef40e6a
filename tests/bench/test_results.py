"""What is kept of a run, and what it is compared with."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.bars import Bar
from bench.results import keep, load_baseline, ratios, record, save_baseline
from bench.run import Outcome
from bench.scenarios import Case, Pace, Scenario
from bench.table import show, show_end


@pytest.fixture
def outcome() -> Outcome:
    cases = [Case(name, lambda _: {}) for name in ("ours", "theirs", "gone")]
    bars = [Bar("ours", against="theirs", times=2), Bar("theirs", against="ours", plus=-3), Bar("ours", against="gone", times=2)]
    runs = {"ours": [{"cpu_us": 3.0, "load_is_bottleneck": 1.0}, {"cpu_us": 5.0}], "theirs": [{"cpu_us": 2.0}, {"cpu_us": 2.0}]}
    return Outcome(Scenario("made-up", "made up", cases, bars), runs, {"gone": "it is not installed"})


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("bench.results.BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr("bench.results.FOLDER", tmp_path / "results")
    return tmp_path / "baseline.json"


def test_only_ratios_go_into_the_baseline(outcome: Outcome, baseline: Path):
    found = ratios([outcome])
    assert found == {"made-up: cpu_us of ours to theirs": 2.0}
    assert load_baseline() == {}
    save_baseline(record([outcome], 2, Pace()), found)
    assert load_baseline() == found
    assert json.loads(baseline.read_text())["machine"]["cores"] >= 1


def test_a_new_baseline_keeps_the_ratios_that_were_not_measured_this_time(outcome: Outcome, baseline: Path):
    run = record([outcome], 2, Pace())
    save_baseline(run, {"a": 1.0, "b": 2.0})
    save_baseline(run, {"b": 3.0})
    assert load_baseline() == {"a": 1.0, "b": 3.0}


def test_a_run_is_kept_with_every_round_the_medians_and_the_bars(outcome: Outcome, baseline: Path):
    kept: dict[str, Any] = json.loads(keep(record([outcome], 2, Pace(seconds=1.5))).read_text())
    assert {"at", "commit", "machine", "rounds", "seconds", "scenarios"} == kept.keys()
    scenario = kept["scenarios"]["made-up"]
    assert scenario["cases"]["ours"]["median"] == {"cpu_us": 4.0}
    assert [run["cpu_us"] for run in scenario["cases"]["ours"]["runs"]] == [3.0, 5.0]
    assert scenario["unmeasured"] == {"gone": "it is not installed"}
    assert [(bar["value"], bar["reached"]) for bar in scenario["bars"]] == [(2.0, True), (-2.0, False), (None, False)]


def test_the_table_shows_figures_bars_and_what_is_missing(outcome: Outcome):
    console = Console(width=120, record=True, file=StringIO())
    show(console, outcome)
    show_end(console, [outcome], {"made-up: cpu_us": (1.0, 2.0)})
    shown = console.export_text()
    assert "2.00 x (1.50-2.50)" in shown
    assert "│ -2.0 µs CPU (" in shown
    assert shown.count("MISSED") == 4
    assert shown.count("not measured") == 3
    assert "gone was not measured: it is not installed" in shown
    assert "the load side was the bottleneck in 1 of 2 rounds" in shown
    assert "worse than the baseline: made-up: cpu_us: 1.00 then, 2.00 now" in shown
