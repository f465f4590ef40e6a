"""A soak: a reporting fleet and a hostile crowd that comes and goes, while descriptors, tasks and memory must stay flat.

    python -m bench.soak [--phones 200] [--hostile 5] [--seconds 60]

Prints a line every ten seconds, then what is left once everybody has gone. Exits with 1 when a descriptor or a task is left over.
A long soak is several fleets one after the other, half an hour each.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.request

from bench.shipped import Shipped, shipped_gateway

LINE_EVERY_S = 10.0
RUN_S = 1800.0
SETTLE_S = 900.0
"""Seconds after which links that are still there count as left over."""
LAST_TASKS_S = 3.0
COUNTED = ("process_open_fds", "signal_gateway_loop_tasks")
MEMORY = "process_resident_memory_bytes"


def numbers(soaked: Shipped) -> dict[str, float]:
    """All that it counts, by name and labels."""
    with urllib.request.urlopen(soaked.metrics_url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def fleet(soaked: Shipped, phones: int, hostile: int, seconds: float) -> subprocess.Popen[bytes]:
    """`simulate` against it, for so long."""
    command = [sys.executable, "-m", "signal_gateway", "simulate", "--url", soaked.url, "--phones", str(phones), "--agents", "0"]
    command += ["--hostile", str(hostile), "--seconds", str(seconds)]
    environ = {**os.environ, "SIMULATE_ENROLMENT_KEY": "bench-enrolment-key"}
    return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)


def links_of(now: dict[str, float]) -> float:
    """Open links of all kinds."""
    return sum(value for name, value in now.items() if name.startswith("signal_gateway_links{"))


def line(begun_at: float, now: dict[str, float]) -> str:
    """What is looked at, for people."""
    counted = "  ".join(f"{name.rpartition('_')[2]} {now[name]:.0f}" for name in COUNTED)
    return (
        f"{time.monotonic() - begun_at:6.0f} s  links {links_of(now):.0f}  {counted}  memory {now[MEMORY] / 1e6:.1f} MB  "
        f"connections {now['signal_gateway_connections_total']:.0f}"
    )


def settled(soaked: Shipped) -> dict[str, float]:
    """The numbers once the last link has ended. One that was over its rate of frames ends when what it had sent has been read."""
    gives_up_at = time.monotonic() + SETTLE_S
    while links_of(now := numbers(soaked)) and time.monotonic() < gives_up_at:
        time.sleep(1.0)
    time.sleep(LAST_TASKS_S)
    return numbers(soaked) if not links_of(now) else now


def main() -> int:
    """Soak, then look what is left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--phones", type=int, default=200)
    parser.add_argument("--hostile", type=int, default=5, help="Of each kind.")
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    with shipped_gateway() as soaked:
        fleet(soaked, 50, 2, 12.0).wait()  # opens what is opened on demand, once and for all
        before, begun_at = settled(soaked), time.monotonic()
        print(line(begun_at, before))
        memory: list[float] = []
        ends_at = begun_at + asked.seconds
        while (left_s := ends_at - time.monotonic()) > 1:
            with fleet(soaked, asked.phones, asked.hostile, min(left_s, RUN_S)) as running:
                while running.poll() is None:
                    time.sleep(LINE_EVERY_S)
                    now = numbers(soaked)
                    memory.append(now[MEMORY])
                    print(line(begun_at, now), flush=True)
        after = settled(soaked)
        print(line(begun_at, after))
    left = {name: after[name] - before[name] for name in COUNTED}
    grown_mb = (memory[-1] - memory[len(memory) // 2]) / 1e6
    print(f"left over: {left}; in the second half memory grew by {grown_mb:.1f} MB, {7200 * grown_mb / asked.seconds:.1f} MB an hour")
    return int(any(left.values()))


if __name__ == "__main__":
    sys.exit(main())
