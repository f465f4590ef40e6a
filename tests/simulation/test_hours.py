"""Simulated hours with everything that may go wrong: nothing is lost, nothing is made up, nothing is left.

SIMULATED_SEEDS says how many hours; a release runs thousands: `python -m signal_gateway.testing.simulation --seeds 0:10000`.
"""

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from math import inf
from typing import Any

import pytest

from signal_gateway.testing.checker import check
from signal_gateway.testing.faults import PERFECT
from signal_gateway.testing.history import NETWORK, History
from signal_gateway.testing.simulation import simulate
from signal_gateway.testing.simulation_plan import STORM, SimulationPlan
from signal_gateway.testing.transcript import Transcript

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "1"))


@cache
def hour_of(seed: int) -> History:
    return simulate(SimulationPlan(), seed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_hour_of_twenty_devices_keeps_every_promise(seed: int):
    history = hour_of(seed)
    assert check(history) == []
    befell = {entry.what for entry in history.entries if entry.who == NETWORK}
    transcript = Transcript(history)
    assert {"stall", "cut", "reset", "vanish"} <= befell
    assert any(connection.replaced is not None for connection in transcript.connections.values())
    assert len(transcript.lives) == 3
    assert len(transcript.times_sent) > 200
    assert {mark for mark in transcript.times_sent if transcript.times_sent[mark] > 1}


def test_an_hour_without_faults_is_without_failures():
    plan = SimulationPlan(faults=PERFECT, storm_s=1500.0, lives=1, doubles=0, commit_fails_chance=0.0, commit_doubt_chance=0.0)
    history = simulate(plan, 1)
    assert check(history) == []
    assert not [entry for entry in history.entries if entry.who == NETWORK or entry.what in ("refused", "answer lost", "down")]


def digest_in_another_process(seed: int) -> str:
    command = [sys.executable, "-m", "signal_gateway.testing.simulation", "--seeds", str(seed), "--digest"]
    environ = {**os.environ, "PYTHONHASHSEED": "1"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=100).stdout.strip()


STORMS: dict[str, dict[str, Any]] = {
    "every byte comes alone": {"faults": replace(STORM, split_chance=1.0, piece_bytes=(1, 1))},
    "the network is at its worst": {"faults": replace(STORM, stall_chance=0.03, cut_chance=0.02, reset_chance=0.02, vanish_chance=0.02)},
    "stalls are for ever": {"faults": replace(STORM, stall_chance=0.01, stall_s=(inf, inf), vanish_chance=0.01)},
    "peers that do not read push back": {"faults": replace(STORM, stall_chance=0.02, stall_s=(1.0, 200.0), buffer_bytes=4096)},
    "the database is down and its answers are lost": {"commit_fails_chance": 0.3, "commit_doubt_chance": 0.15},
    "the gateway is restarted again and again": {"lives": 12},
}


@pytest.mark.parametrize("storm", STORMS)
def test_a_storm_of_one_kind_breaks_no_promise(storm: str):
    plan = SimulationPlan(phones=4, agents=4, doubles=4, storm_s=600, report_every_s=60, unregister_every_s=200)
    assert check(simulate(replace(plan, **STORMS[storm]), 5)) == []


def test_an_hour_is_the_same_in_every_process():
    assert digest_in_another_process(0) == hour_of(0).digest()
