"""Simulated hours with everything that may go wrong: nothing is lost, nothing is made up, nothing is left.

SIMULATED_SEEDS says how many hours; a release runs thousands: `python -m signal_gateway.testing.simulation --seeds 0:10000`.
"""

import os
import subprocess
import sys

import pytest

from signal_gateway.testing.checker import check
from signal_gateway.testing.faults import PERFECT
from signal_gateway.testing.history import NETWORK
from signal_gateway.testing.simulation import SimulationPlan, simulate
from signal_gateway.testing.transcript import Transcript

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "8"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_hour_of_twenty_devices_keeps_every_promise(seed: int):
    history = simulate(SimulationPlan(), seed)
    assert check(history) == []
    befell = {entry.what for entry in history.entries if entry.who == NETWORK}
    transcript = Transcript(history)
    assert {"stall", "cut", "reset", "vanish"} <= befell
    assert any(connection.replaced is not None for connection in transcript.connections.values())
    assert len(transcript.lives) == 3
    assert len(transcript.times_sent) > 200
    assert {mark for mark in transcript.times_sent if transcript.times_sent[mark] > 1}


def test_an_hour_without_faults_is_without_failures():
    plan = SimulationPlan(faults=PERFECT, lives=1, doubles=0, commit_fails_chance=0.0, commit_doubt_chance=0.0)
    history = simulate(plan, 1)
    assert check(history) == []
    assert not [entry for entry in history.entries if entry.who == NETWORK or entry.what in ("refused", "answer lost", "down")]


def digest_in_another_process(seed: int, hash_seed: int) -> str:
    command = [sys.executable, "-m", "signal_gateway.testing.simulation", "--seeds", str(seed), "--digest"]
    environ = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=100).stdout.strip()


def test_an_hour_is_the_same_in_every_process():
    assert digest_in_another_process(3, 1) == digest_in_another_process(3, 2) == simulate(SimulationPlan(), 3).digest()
