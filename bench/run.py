"""Measures scenarios: every case once in a round, round after round, so that whatever else the machine does meets all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.bars import Verdict, judge
from bench.build import Unmeasured
from bench.load import Figures
from bench.scenarios import Case, Pace, Scenario

Told = Callable[[Scenario, int, Case], None]


@dataclass
class Outcome:
    """What came of one scenario."""

    scenario: Scenario
    runs: dict[str, list[Figures]] = field(default_factory=dict[str, list[Figures]])
    """By case, one entry for a round. A case that failed once has none."""
    unmeasured: dict[str, str] = field(default_factory=dict[str, str])
    """By case, why it could not be measured."""

    @property
    def verdicts(self) -> list[Verdict]:
        """What the rounds say of each bar."""
        return judge(self.scenario.bars, self.runs)


def runs_of(scenario: Scenario, rounds: int) -> list[tuple[int, Case]]:
    """What is run, in its order: every case in turn, then again, where `rounds` are asked for."""
    count = min(rounds, scenario.rounds_max)
    return [(number, case) for number in range(1, count + 1) for case in scenario.cases if number <= case.rounds_max]


def measure(scenario: Scenario, rounds: int, pace: Pace, tell: Told) -> Outcome:
    """Measure one scenario; `tell` is called before each run. A case that cannot be measured is tried once and left out."""
    outcome = Outcome(scenario)
    pace = Pace(max(pace.seconds, scenario.seconds or 0.0), max(pace.warm_up_s, scenario.warm_up_s))
    for number, case in runs_of(scenario, rounds):
        tell(scenario, number, case)
        if case.name in outcome.unmeasured:
            continue
        try:
            outcome.runs.setdefault(case.name, []).append(case.measure(pace))
        except Unmeasured as why:
            outcome.unmeasured[case.name] = str(why)
            outcome.runs.pop(case.name, None)
    return outcome


def all_reached(outcomes: Sequence[Outcome]) -> bool:
    """Whether every bar holds and nothing that must be there was left unmeasured."""
    missing = [case for outcome in outcomes for case in outcome.scenario.cases if case.name in outcome.unmeasured and not case.is_optional]
    return not missing and all(verdict.is_reached for outcome in outcomes for verdict in outcome.verdicts)
