"""What is read of processes, and how latencies are counted."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bench.processes import Disturbance, busy_s, cores, cpu_s, resident_bytes

LATENCY_H = Path(__file__).parents[2] / "bench" / "load_side" / "latency.h"
COUNTING = """
#include "latency.h"
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words)
{
    static struct latencies seen;
    for (int i = 1; i < count; i++)
        latency_add(&seen, strtoull(words[i], NULL, 10));
    printf("%f %f %f\\n", latency_at(&seen, 0), latency_at(&seen, 0.5), latency_at(&seen, 0.99));
    return 0;
}
"""


def test_the_cpu_clock_of_a_process_is_the_one_that_it_reads_itself():
    before = time.process_time()
    read = cpu_s(os.getpid())
    assert before <= read <= time.process_time()


def test_resident_memory_grows_with_what_is_used():
    before = resident_bytes(os.getpid())
    used = bytearray(b"x") * (64 * 2**20)
    assert resident_bytes(os.getpid()) - before > 48 * 2**20
    assert len(used) == 64 * 2**20


def test_our_own_work_disturbs_nobody(monkeypatch: pytest.MonkeyPatch):
    """Of ten seconds on two cores others had five, we had the rest."""
    readings = iter([100.0, 120.0])
    ours = iter([40.0, 55.0])
    clock = iter([1000.0, 1010.0])
    monkeypatch.setattr("bench.processes.busy_s", lambda: next(readings))
    monkeypatch.setattr("bench.processes.cpu_s", lambda _: next(ours))
    monkeypatch.setattr("bench.processes.time.perf_counter", lambda: next(clock))
    assert Disturbance(1).cores() == 0.5


def test_the_machine_has_worked_and_a_server_has_a_core():
    assert busy_s() > 0
    assert set(cores()) <= os.sched_getaffinity(0)


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counting")
    (folder / "counting.c").write_text(COUNTING)
    command = ["cc", "-Wall", "-Werror", "-I", str(LATENCY_H.parent), "-o", "counting", "counting.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "counting"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")
@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([1, 2, 3], (1, 2, 3)),
        ([63, 64, 65], (63, 64, 65)),
        (range(1000, 101_000, 1000), (1000, 51_000, 100_000)),
        ([5_000_000_000] * 98 + [7_000_000_000] * 2, (5e9, 5e9, 7e9)),
        ([2**63], (2**41, 2**41, 2**41)),
    ],
)
def test_latencies_are_told_within_two_in_a_hundred(counting: Path, latencies: list[int], expected: tuple[float, float, float]):
    done = subprocess.run([str(counting), *map(str, latencies)], capture_output=True, text=True, check=True)
    assert tuple(map(float, done.stdout.split())) == pytest.approx(expected, rel=0.02, abs=0.6)
