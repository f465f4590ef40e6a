"""What must be reached: arithmetic over the runs of a scenario. No clock, no process, no screen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Figures = Mapping[str, float]
Runs = Mapping[str, Sequence[Figures]]
"""By the name of the case, what each round measured, in the order of the rounds. A case that could not be measured is absent."""

UNITS = {
    "cpu_us": "µs CPU",
    "p99_ms": "ms p99",
    "link_kib": "KiB",
    "worst_ms": "ms worst",
    "each_us": "µs each",
    "trip_ms": "ms",
    "times_alone": "x their p99 alone",
    "grown_mib": "MiB",
    "lost": "lost",
    "doubled": "doubled",
    "misplaced": "misplaced",
    "backward": "backward",
    "breaches": "breaches",
}
WORSE_SHARE = 0.10
"""A ratio that grew by more than this share of what it was is told."""


@dataclass(frozen=True)
class Bar:
    """One figure of the case `of` against that of another case: at most `times` it, or at most it `plus`. Or, alone, at most `limit`."""

    of: str
    figure: str = "cpu_us"
    against: str | None = None
    times: float | None = None
    plus: float | None = None
    limit: float | None = None
    is_strict: bool = False
    """Below it, not at it."""

    @property
    def text(self) -> str:
        """As the table prints it."""
        sign, unit = "<" if self.is_strict else "≤", UNITS[self.figure]
        if self.times is not None:
            return f"{sign} {self.times:g} x" + ("" if self.figure == "cpu_us" else f" {unit}")
        return f"{sign} + {self.plus:g} {unit}" if self.plus is not None else f"{sign} {self.limit:.4g} {unit}"

    @property
    def most(self) -> float:
        """What `value` may be."""
        return next(most for most in (self.times, self.plus, self.limit) if most is not None)

    def values(self, runs: Runs) -> list[float]:
        """What is compared with `most`, once for each round that has both cases: a ratio, a difference, or the figure itself."""
        own = runs.get(self.of, ())
        if self.against is None:
            return [figures[self.figure] for figures in own]
        pairs = [(mine[self.figure], theirs[self.figure]) for mine, theirs in zip(own, runs.get(self.against, ()), strict=False)]
        return [mine - theirs if self.times is None else mine / theirs for mine, theirs in pairs]


@dataclass(frozen=True)
class Verdict:
    """A bar, and what the rounds say of it."""

    bar: Bar
    values: Sequence[float]

    @property
    def value(self) -> float | None:
        """The median of the rounds; None where there was nothing to compare with."""
        return median(self.values) if self.values else None

    @property
    def is_reached(self) -> bool:
        """Whether the bar holds. What could not be measured does not."""
        value, most = self.value, self.bar.most
        return value is not None and (value < most if self.bar.is_strict else value <= most)


def judge(bars: Sequence[Bar], runs: Runs) -> list[Verdict]:
    """Every bar, in its order."""
    return [Verdict(bar, bar.values(runs)) for bar in bars]


def medians(rounds: Sequence[Figures]) -> dict[str, float]:
    """Every figure that each round has, as the median of the rounds."""
    names = set(rounds[0]).intersection(*rounds[1:]) if rounds else set[str]()
    return {name: median(figures[name] for figures in rounds) for name in sorted(names)}


def worse(now: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """The ratios that got more than 10 % worse: what they were, what they are. What either side does not have is left out."""
    return {
        name: (baseline[name], value)
        for name, value in now.items()
        if name in baseline and value > baseline[name] + abs(baseline[name]) * WORSE_SHARE
    }
