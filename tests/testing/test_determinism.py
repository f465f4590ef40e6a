"""The same seed gives the same history, whatever the process; another seed gives another one."""

import os
import random
import subprocess
import sys

import pytest
import trio
from trio._core import _run
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing import determinism
from signal_gateway.testing.determinism import SwitchMoved, drawn_from
from signal_gateway.testing.faults import FaultPlan
from signal_gateway.testing.history import NETWORK, History
from signal_gateway.testing.world import open_world

AGENTS = tuple(f"agent-{number}" for number in range(4))
CONFIG = Config(
    auth=AuthSettings(api_keys=tuple(f"{agent}:token" for agent in AGENTS), enrolment_keys=("demo:demo-enrolment-key",)),
)
BAD = FaultPlan(
    delay_s=(0.0, 0.5), split_chance=0.3, stall_chance=0.01, cut_chance=0.01, reset_chance=0.01, vanish_chance=0.01, notice_s=(30, 200)
)


async def live(seed: int, history: History) -> None:
    """Ten minutes of a few devices on a bad network."""
    async with open_world(CONFIG, seed, faults=BAD, history=history) as world:
        phones = [world.phone(number) for number in range(4)]
        phones[0].wants_device_key = True
        for device in (*phones, *(world.agent(agent, "token") for agent in AGENTS)):
            world.links.start_soon(device.live)
        await trio.sleep(600)


def history_of(seed: int) -> History:
    async def main() -> History:
        history = History(quiet=True)
        await live(seed, history)
        return history

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def digest_in_another_process(seed: int, hash_seed: int) -> str:
    command = [sys.executable, "-c", f"from tests.testing.test_determinism import history_of; print(history_of({seed}).digest())"]
    environ = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_history_in_every_process_and_another_seed_another():
    here = history_of(7)
    told_by = {entry.who for entry in here.entries}
    assert {"gateway", "database", "log", NETWORK, "sim-phone-0000", "agent-0"} <= told_by
    assert digest_in_another_process(7, 1) == digest_in_another_process(7, 2) == here.digest()
    assert history_of(8).digest() != here.digest()


def order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def step(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async def main() -> None:
        with drawn_from(seed):
            async with trio.open_nursery() as nursery:
                for number in range(10):
                    nursery.start_soon(step, number)

    trio.run(main)
    return order


def test_trio_runs_its_tasks_in_the_order_that_the_seed_says():
    """Fails when a new version of Trio orders its tasks in another way: then `determinism` must learn it."""
    assert order_of_tasks(1) == order_of_tasks(1)
    assert len({tuple(order_of_tasks(seed)) for seed in range(10)}) > 5


def test_what_was_before_is_there_again_afterwards(monkeypatch):
    monkeypatch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", False)
    theirs, ours = _run._r.getstate(), random.getstate()
    drawn: list[float] = []

    def draw_and_fail() -> None:
        with drawn_from(1):
            assert _run._ALLOW_DETERMINISTIC_SCHEDULING
            drawn.extend([random.random(), _run._r.random()])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw_and_fail()
    assert not _run._ALLOW_DETERMINISTIC_SCHEDULING
    assert (_run._r.getstate(), random.getstate()) == (theirs, ours)
    with drawn_from(1):
        assert drawn == [random.random(), _run._r.random()]


def test_of_two_seeds_the_outer_one_decides():
    with drawn_from(1):
        alone = [random.random() for _ in range(4)]
    with drawn_from(1):
        drawn = [random.random()]
        with drawn_from(2):
            drawn += [random.random(), random.random()]
        drawn.append(random.random())
    assert drawn == alone


def test_a_trio_that_keeps_its_switch_elsewhere_is_refused(monkeypatch):
    monkeypatch.setattr(determinism._trio, "unrolled_run", lambda: None)
    with pytest.raises(SwitchMoved, match="determinism"), drawn_from(1):
        pass
