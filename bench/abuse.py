"""What one hostile client of each kind costs the server: its share of a core, and its memory (H09, H11: under 5 % and 1 MiB each).

    python -m bench.abuse [--each 50] [--seconds 40] [KIND ...]

A server of its own for each kind, with the shipped limits. A client that is turned away comes again after 1 to 5 s, so the share is
that of one who insists. `kept` is what the process had grown by at the end, a moment after the last hostile client had gone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from bench.processes import cpu_s, resident_bytes
from bench.shipped import shipped_gateway
from signal_gateway.testing.hostile import KINDS

SAMPLE_EVERY_S = 0.25
SETTLE_S = 3.0
"""Seconds in which the server says goodbye to the last of them."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one client of a kind costs."""

    cpu_share: float
    """Of one core."""
    peak_bytes: float
    kept_bytes: float
    ends: dict[str, int]
    """How attempts ended, and how often."""


def measure(kinds: list[str], each: int, seconds: float) -> Cost:
    """Let a crowd of these kinds at a fresh server, and look at its process."""
    with shipped_gateway() as server:
        process_id = server.process.pid
        command = [sys.executable, "-m", "signal_gateway.testing.crowd", server.url, "--each", str(each), "--seconds", str(seconds)]
        environ = {**os.environ, "SIMULATE_ENROLMENT_KEY": "bench-enrolment-key"}
        before_bytes, before_s, begun_at = resident_bytes(process_id), cpu_s(process_id), time.monotonic()
        peak_bytes = before_bytes
        with tempfile.TemporaryFile("w+") as told_by_crowd:
            with subprocess.Popen([*command, "--kinds", *kinds], env=environ, stdout=told_by_crowd) as crowd:
                while crowd.poll() is None:
                    time.sleep(SAMPLE_EVERY_S)
                    peak_bytes = max(peak_bytes, resident_bytes(process_id))
            told_by_crowd.seek(0)
            ends: dict[str, dict[str, int]] = json.loads(told_by_crowd.readlines()[-1])
        spent_s, took_s = cpu_s(process_id) - before_s, time.monotonic() - begun_at
        time.sleep(SETTLE_S)
        clients = each * len(kinds)
        told = {f"{kind}: {end}" if len(kinds) > 1 else end: count for kind, counts in ends.items() for end, count in counts.items()}
        kept_bytes = resident_bytes(process_id) - before_bytes
    return Cost(spent_s / took_s / clients, (peak_bytes - before_bytes) / clients, kept_bytes / clients, told)


def main() -> None:
    """A line for each kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"Of {', '.join(KINDS)}; without any, all of them.")
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=40.0)
    asked = parser.parse_args()
    if unknown := [kind for kind in asked.kinds if kind not in KINDS]:
        parser.error(f"there is no kind {unknown[0]!r}")
    print(f"{asked.each} clients of a kind for {asked.seconds:g} s; costs of one client")
    print(f"{'kind':22}{'CPU share':>10}{'peak KiB':>10}{'kept KiB':>10}  how attempts ended")
    for kind in asked.kinds or KINDS:
        cost = measure([kind], asked.each, asked.seconds)
        ends = ", ".join(f"{end} {count}" for end, count in cost.ends.items()) or "still under way"
        print(f"{kind:22}{cost.cpu_share:>10.3%}{cost.peak_bytes / 1024:>10.1f}{cost.kept_bytes / 1024:>10.1f}  {ends}", flush=True)


if __name__ == "__main__":
    main()
