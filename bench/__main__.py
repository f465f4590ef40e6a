"""Measure and compare: `python -m bench [NAME ...]`, or `make bench`, which installs the peers, too."""

import argparse
import resource
import sys

from rich.console import Console

from bench import results, table
from bench.bars import worse
from bench.processes import cores
from bench.run import Outcome, all_reached, measure, runs_of
from bench.scenarios import SCENARIOS, Pace

ROUNDS = 5
QUICK = Pace(seconds=1.0, warm_up_s=0.3)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the gateway beside its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(scenario.name for scenario in SCENARIOS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="One round of one second: for development, not for claims.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="Alternating runs; each ratio is the median of theirs.")
    parser.add_argument("--seconds", type=float, default=Pace.seconds, help="Length of a window.")
    parser.add_argument("--no-bars", action="store_true", help="Exit with 0 even when a bar is missed or a peer is missing.")
    parser.add_argument("--save-baseline", action="store_true", help="Keep these ratios as what later runs are compared with.")
    asked = parser.parse_args()
    if unknown := set(asked.names) - {scenario.name for scenario in SCENARIOS}:
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}")
    if asked.rounds < 1 or asked.seconds <= 0:
        parser.error("--rounds and --seconds must be above 0")
    return asked


def main() -> int:
    """0 when every bar was reached, 1 when not, 2 for a wrong argument."""
    asked = arguments()
    rounds, pace = (1, QUICK) if asked.quick else (asked.rounds, Pace(seconds=asked.seconds))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # servers inherit it: thousands of links need as many descriptors
    console = Console(width=None if sys.stdout.isatty() else 150)
    if len(set(cores())) == 1:
        console.print("there is one core only: the load side takes turns with the server, and latencies say little")
    wanted = [scenario for scenario in SCENARIOS if not asked.names or scenario.name in asked.names]
    outcomes: list[Outcome] = []
    with table.Shown(console, sum(len(runs_of(scenario, rounds)) for scenario in wanted)) as shown:
        for scenario in wanted:
            outcomes.append(measure(scenario, rounds, pace, shown.run_begins))
            table.show(console, outcomes[-1])
    ratios = results.ratios(outcomes)
    table.show_end(console, outcomes, worse(ratios, results.load_baseline()))
    run = results.record(outcomes, rounds, pace)
    console.print(f"kept in {results.keep(run)}", highlight=False)
    if asked.save_baseline:
        results.save_baseline(run, ratios)
    return 0 if asked.no_bars or all_reached(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
