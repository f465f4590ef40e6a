"""What is seen on the screen: progress while it runs, then the table with every figure and its bar."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bench.bars import UNITS, Verdict, medians
from bench.run import Outcome
from bench.scenarios import Case, Scenario


@dataclass(frozen=True)
class Column:
    """One figure of every case, under its heading."""

    figure: str
    heading: str
    digits: int

    def cell(self, figures: Mapping[str, float]) -> str:
        """As it is printed; empty where there is none."""
        return f"{figures[self.figure]:,.{self.digits}f}" if self.figure in figures else ""


COLUMNS = (
    Column("cpu_us", "µs CPU", 2),
    Column("per_second", "a second", 0),
    Column("p50_ms", "p50 ms", 3),
    Column("p99_ms", "p99 ms", 3),
    Column("worst_ms", "worst ms", 1),
    Column("link_kib", "KiB/link", 1),
)

DISTURBED_CORES = 0.1
"""From so much work of others on, latencies say little."""


class Shown:
    """Progress over all runs: a line that changes on a terminal, a line for each run elsewhere."""

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("", total=runs)
        self._begun = 0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def run_begins(self, scenario: Scenario, number: int, case: Case) -> None:
        """This run is next."""
        text = f"{scenario.name}, round {number}: {case.name}"
        self._progress.update(self._task, description=text, completed=self._begun)
        self._begun += 1
        if not self._console.is_terminal:
            self._console.print(text, highlight=False)


def show(console: Console, outcome: Outcome) -> None:
    """The table of one scenario."""
    table = Table(title=f"{outcome.scenario.name}: {outcome.scenario.title}", title_justify="left", title_style="bold")
    table.add_column("")
    figures = {name: medians(runs) for name, runs in outcome.runs.items()}
    columns = [column for column in COLUMNS if any(column.figure in each for each in figures.values())]
    for column in columns:
        table.add_column(column.heading, justify="right")
    for heading in ("measured", "bar", "") if outcome.verdicts else ():
        table.add_column(heading, no_wrap=True)
    for case in outcome.scenario.cases:
        verdicts = [verdict for verdict in outcome.verdicts if case.name == (verdict.bar.against or verdict.bar.of)]
        cells = [column.cell(figures.get(case.name, {})) for column in columns]
        table.add_row(case.name, *cells, *(_judged(verdicts) if outcome.verdicts else ()))
    console.print(table)
    for note in notes(outcome):
        console.print(f"  {note}", highlight=False)
    console.print()


def notes(outcome: Outcome) -> list[str]:
    """What must be known to read the figures: what is missing, where the load side was slower than the server, who disturbed."""
    said = [f"{name} was not measured: {why}" for name, why in outcome.unmeasured.items()]
    disturbed = 0.0
    for name, runs in outcome.runs.items():
        slower = sum(bool(figures.get("load_is_bottleneck")) for figures in runs)
        if slower:
            said.append(
                f"{name}: the load side was the bottleneck in {slower} of {len(runs)} rounds; messages/s are its own, not the server's"
            )
        if (grown := medians(runs).get("grown_mib", 0.0)) > 1:
            said.append(f"{name}: memory grew by {grown:.1f} MiB in a run")
        if ended := sum(int(figures.get("ended", 0)) for figures in runs):
            said.append(f"{name}: the server ended {ended} links that never read, in {len(runs)} runs")
        disturbed = max([disturbed, *(figures.get("others_cores", 0.0) for figures in runs)])
    if disturbed > DISTURBED_CORES:
        said.append(f"other processes used up to {disturbed:.1f} cores meanwhile: the latencies are theirs, too")
    return said


def show_end(console: Console, outcomes: Sequence[Outcome], worse: Mapping[str, tuple[float, float]]) -> None:
    """Every bar once more, then what got worse."""
    verdicts = [(outcome.scenario.name, verdict) for outcome in outcomes for verdict in outcome.verdicts]
    if verdicts:
        table = Table(title="bars", title_justify="left", title_style="bold")
        for heading in ("scenario", "of", "against", "measured", "bar", ""):
            table.add_column(heading)
        for name, verdict in verdicts:
            table.add_row(name, verdict.bar.of, verdict.bar.against or "", *_judged([verdict]))
        console.print(table)
    for name, (before, now) in worse.items():
        console.print(f"worse than the baseline: {name}: {before:.2f} then, {now:.2f} now", style="yellow", highlight=False)


def _judged(verdicts: Sequence[Verdict]) -> tuple[Text, Text, Text]:
    """Value with its spread, bar, and word, a line for each bar."""
    values = Text("\n".join(_measured(verdict) for verdict in verdicts))
    words = [Text("ok", style="green") if verdict.is_reached else Text("MISSED", style="bold red") for verdict in verdicts]
    return values, Text("\n".join(verdict.bar.text for verdict in verdicts)), Text("\n").join(words)


def _measured(verdict: Verdict) -> str:
    if verdict.value is None:
        return "not measured"
    bar = verdict.bar
    if bar.times is not None:
        text, spread = f"{verdict.value:.2f} x", f"{min(verdict.values):.2f}-{max(verdict.values):.2f}"
    else:
        sign = "+" if bar.plus is not None else ""
        text, spread = f"{verdict.value:{sign}.1f} {UNITS[bar.figure]}", f"{min(verdict.values):.1f}-{max(verdict.values):.1f}"
    return f"{text} ({spread})" if len(verdict.values) > 1 else text
