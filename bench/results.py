"""What is kept of a run: a file for each, and one baseline of ratios that later runs are compared with."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.bars import medians
from bench.run import Outcome
from bench.scenarios import Pace

FOLDER = Path(__file__).parent / "results"
BASELINE = Path(__file__).parent / "baseline.json"


def ratios(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The ratios behind the bars, by a name that stays the same: absolute figures are not comparable between machines."""
    return {
        f"{outcome.scenario.name}: {verdict.bar.figure} of {verdict.bar.of} to {verdict.bar.against}": round(verdict.value, 4)
        for outcome in outcomes
        for verdict in outcome.verdicts
        if verdict.value is not None and verdict.bar.times is not None
    }


def machine() -> dict[str, Any]:
    """Where this was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit that was measured; with `+` where something was changed since, empty outside of a repository."""
    where = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def record(outcomes: Sequence[Outcome], rounds: int, pace: Pace) -> dict[str, Any]:
    """All of a run, as it is kept."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "rounds": rounds,
        "seconds": pace.seconds,
        "scenarios": {outcome.scenario.name: _record_of(outcome) for outcome in outcomes},
    }


def keep(run: Mapping[str, Any]) -> Path:
    """Write a file of its own for this run."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{run['at'].replace(':', '').replace('+0000', 'Z')}.json"
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
    return path


def save_baseline(run: Mapping[str, Any], now: Mapping[str, float]) -> None:
    """Compare later runs with this one. Ratios of scenarios that were not measured now are kept as they were."""
    kept = {**load_baseline(), **now}
    baseline = {"at": run["at"], "commit": run["commit"], "machine": run["machine"], "ratios": dict(sorted(kept.items()))}
    BASELINE.write_text(json.dumps(baseline, indent=1, ensure_ascii=False) + "\n")


def load_baseline() -> dict[str, float]:
    """The ratios that were saved; none where nothing was."""
    return dict(json.loads(BASELINE.read_text())["ratios"]) if BASELINE.exists() else {}


def _record_of(outcome: Outcome) -> dict[str, Any]:
    return {
        "cases": {name: {"median": medians(runs), "runs": runs} for name, runs in outcome.runs.items()},
        "unmeasured": outcome.unmeasured,
        "bars": [
            {
                "of": verdict.bar.of,
                "figure": verdict.bar.figure,
                "against": verdict.bar.against,
                "bar": verdict.bar.text,
                "value": verdict.value,
                "values": list(verdict.values),
                "reached": verdict.is_reached,
            }
            for verdict in outcome.verdicts
        ],
    }
