"""What has waited goes out in turns, as fast as the process has time for it, and never slower than a hundred a second."""

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.backlog_pace import SAVED_MAX_S, SLOWEST_S, TURN_S, BacklogPace


def paced(share: float, cpu_s: list[float]) -> tuple[BacklogPace, Metrics]:
    metrics = Metrics()
    pace = BacklogPace(share, metrics)
    pace.cpu_s = lambda: cpu_s[0]
    return pace, metrics


def next_ones(pace: BacklogPace, *, sends: bool = True) -> list[str]:
    """Who is looked at now; each has something to send, or none has."""
    looked: list[str] = []

    def look(device_id: str) -> bool:
        looked.append(device_id)
        return sends

    pace.give_turns(look)
    return looked


async def sent_in(pace: BacklogPace, seconds: float, cpu_s: list[float], each_s: float) -> int:
    """How many of them go in this time, where each costs so much processor time."""
    sent, ends_at = 0, trio.current_time() + seconds
    while trio.current_time() < ends_at:
        count = len(next_ones(pace))
        cpu_s[0] += count * each_s
        sent += count
        await trio.sleep(TURN_S / 2)
    return sent


@pytest.fixture
def cpu_s() -> list[float]:
    return [0.0]


async def test_they_go_first_come_first_served_and_once_each(autojump_clock: MockClock, cpu_s: list[float]):
    pace, _ = paced(0.5, cpu_s)
    for name in ("a", "b", "a", "c"):
        pace.add(name)
    order: list[str] = []
    while pace:
        order += next_ones(pace)
        await trio.sleep(TURN_S)
    assert order == ["a", "b", "c"]
    assert next_ones(pace) == []


@pytest.mark.parametrize(("share", "each_s", "expected"), [(0.5, 0.005, 100), (0.7, 0.0025, 280), (0.7, 0.0, 500), (0.1, 0.02, 100)])
async def test_the_share_bounds_the_rate(autojump_clock: MockClock, cpu_s: list[float], share: float, each_s: float, expected: int):
    pace, _ = paced(share, cpu_s)
    for number in range(2000):
        pace.add(f"{number}")
    assert await sent_in(pace, 1.0, cpu_s, each_s) == pytest.approx(expected, rel=0.1)


async def test_held_back_is_counted_and_a_busy_process_sends_the_slowest_rate(autojump_clock: MockClock, cpu_s: list[float]):
    pace, metrics = paced(0.5, cpu_s)
    for number in range(2000):
        pace.add(f"{number}")
    cpu_s[0] += 1000.0
    assert await sent_in(pace, 1.0, cpu_s, SLOWEST_S) == pytest.approx(1 / SLOWEST_S, rel=0.1)
    assert metrics.limits.value("commands.backlog_cpu") > 0


async def test_idle_time_is_not_saved_up(autojump_clock: MockClock, cpu_s: list[float]):
    pace, _ = paced(0.5, cpu_s)
    await trio.sleep(3600)
    for number in range(2000):
        pace.add(f"{number}")
    assert await sent_in(pace, 0.1, cpu_s, 0.01) <= 0.1 / SLOWEST_S + SAVED_MAX_S / 0.01 + 1


async def test_whose_lane_has_nothing_to_send_takes_no_turn(autojump_clock: MockClock, cpu_s: list[float]):
    pace, _ = paced(0.5, cpu_s)
    for name in ("a", "b", "c"):
        pace.add(name)
    assert next_ones(pace, sends=False) == ["a", "b", "c"]
    pace.add("d")
    assert next_ones(pace) == ["d"]
    pace.add("e")
    assert next_ones(pace) == []


def test_a_whole_core_is_no_bound():
    assert BacklogPace(1.0, Metrics()).is_off
    assert not BacklogPace(0.7, Metrics()).is_off
