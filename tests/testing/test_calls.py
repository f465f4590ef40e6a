"""Simulated agents call each other in rooms of a gateway in memory."""

from random import Random

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing.calls import SimulatedCall
from signal_gateway.testing.faults import FaultPlan
from signal_gateway.testing.world import World, open_world

pytestmark = pytest.mark.slow

PAIRS = 3
CONFIG = Config(auth=AuthSettings(enrolment_keys=("demo:demo-enrolment-key",)))


async def begin_calls(world: World) -> list[SimulatedCall]:
    calls: list[SimulatedCall] = []
    for number in range(PAIRS):
        host, guest = (world.agent(f"{who}-{number}", "demo-enrolment-key", registers=True) for who in ("host", "caller"))
        for agent in (host, guest):
            await world.links.start(agent.live)
        calls.append(SimulatedCall(host, guest, world.numbers, Random(number)))
        world.links.start_soon(calls[-1].talk_on)
    return calls


async def test_calls_are_made_and_completed_for_ten_minutes(autojump_clock: MockClock):
    async with open_world(CONFIG, seed=5) as world:
        await begin_calls(world)
        await trio.sleep(600)
        assert not world.numbers.failures
        assert world.numbers.calls["completed"] > 40 * PAIRS
        assert 0 <= world.numbers.calls["made"] - world.numbers.calls["completed"] <= PAIRS


async def test_calls_go_on_after_a_bad_network(autojump_clock: MockClock):
    """Links are cut, reset and stall; when it is calm again every pair calls, and no room is left of those that broke."""
    bad = FaultPlan(delay_s=(0.01, 0.3), split_chance=0.1, stall_chance=0.01, stall_s=(1, 30), cut_chance=0.01, reset_chance=0.01)
    async with open_world(CONFIG, seed=6, faults=bad) as world:
        await begin_calls(world)
        await trio.sleep(600)
        assert world.numbers.calls["broken"] > 0
        world.network.plan = FaultPlan()
        await trio.sleep(240)  # longer than a silence and a grace
        before = dict(world.numbers.calls)
        await trio.sleep(300)
        assert world.numbers.calls["broken"] == before["broken"]
        assert world.numbers.calls["completed"] >= before["completed"] + 15 * PAIRS
        assert len(list(world.gateway.rooms.opened())) <= PAIRS
