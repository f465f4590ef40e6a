"""The nap of a busy loop: for those who wait for another thread, and for nobody else."""

import time

import pytest
import trio

from signal_gateway.observe import nap
from signal_gateway.observe.metrics import Metrics
from signal_gateway.observe.nap import LONGEST_NAPS, NAP_AFTER_S, NAP_EVERY_S, NAP_S, Nap


class Clock:
    """A perf_counter that a test moves, and whose sleeps it sees."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.used_in_nap_s = 0.0001
        """CPU that another thread takes while this one sleeps."""
        self._of_others = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self._of_others += self.used_in_nap_s

    def process_time(self) -> float:
        return 7.0 + self._of_others

    def thread_time(self) -> float:
        return 7.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(nap, "time", clock)
    return clock


def passes(instrument: Nap, clock: Clock, count: int, work_s: float, waits: bool = False) -> None:
    """So many passes of a loop that works so long in each, and waits for events in between or finds them there."""
    timeout = 1.0 if waits else 0.0
    for _ in range(count):
        clock.now += work_s
        instrument.before_io_wait(timeout)
        instrument.after_io_wait(timeout)


def stuck(metrics: Metrics) -> Nap:
    """One job is waited for, and does not come back."""
    return Nap(lambda: 1, lambda: 0, metrics)


def test_a_loop_that_never_waits_naps_now_and_then_while_a_job_does_not_come_back(clock: Clock):
    metrics = Metrics()
    instrument = stuck(metrics)
    passes(instrument, clock, 30, NAP_AFTER_S / 31)
    assert clock.slept == []
    passes(instrument, clock, 7, NAP_EVERY_S / 5 + 1e-9)
    assert clock.slept == [NAP_S]
    passes(instrument, clock, 5, NAP_EVERY_S / 5 + 1e-9)
    assert clock.slept == [NAP_S] * 2
    assert f"signal_gateway_loop_naps_total {len(clock.slept)}.0".encode() in metrics.text()


def test_the_longer_nothing_comes_back_the_more_naps_are_taken_in_a_row(clock: Clock):
    metrics = Metrics()
    instrument = stuck(metrics)
    in_a_row: list[int] = []
    for _ in range(100):
        before = len(clock.slept)
        passes(instrument, clock, 1, NAP_EVERY_S)
        in_a_row.append(len(clock.slept) - before)
    assert in_a_row == sorted(in_a_row)
    assert set(in_a_row) == set(range(LONGEST_NAPS + 1))
    assert f"signal_gateway_loop_naps_total {sum(in_a_row)}.0".encode() in metrics.text()


def test_who_waits_for_the_disk_needs_no_second_nap(clock: Clock):
    clock.used_in_nap_s = 0.0
    instrument = stuck(Metrics())
    for _ in range(100):
        before = len(clock.slept)
        passes(instrument, clock, 1, NAP_EVERY_S)
        assert len(clock.slept) - before <= 1
    assert len(clock.slept) > 90


def test_an_answer_makes_naps_short_again(clock: Clock):
    answered = [0]
    instrument = Nap(lambda: 1, lambda: answered[0], Metrics())
    passes(instrument, clock, 100, NAP_EVERY_S)
    answered[0] += 1
    before = len(clock.slept)
    passes(instrument, clock, round(NAP_AFTER_S / NAP_EVERY_S), NAP_EVERY_S)
    assert len(clock.slept) == before
    passes(instrument, clock, 3, NAP_EVERY_S)
    assert 0 < len(clock.slept) - before <= 3


def test_nobody_naps_for_threads_that_nobody_waits_for(clock: Clock):
    passes(Nap(lambda: 0, lambda: 7, Metrics()), clock, 100, NAP_EVERY_S)
    assert clock.slept == []


def test_nobody_naps_while_jobs_come_back(clock: Clock):
    answered = iter(range(1000))
    passes(Nap(lambda: 5, lambda: next(answered), Metrics()), clock, 100, NAP_EVERY_S)
    assert clock.slept == []


def test_a_loop_that_waits_for_events_has_let_the_others_go_on_already(clock: Clock):
    instrument = stuck(Metrics())
    for _ in range(100):
        passes(instrument, clock, 4, NAP_AFTER_S / 5)
        passes(instrument, clock, 1, 0.0, waits=True)
    assert clock.slept == []


async def test_trio_calls_it_in_a_loop_that_is_never_idle():
    metrics = Metrics()
    with stuck(metrics).installed():
        while not metrics_say_naps(metrics):
            ends_at = time.perf_counter() + NAP_EVERY_S
            while time.perf_counter() < ends_at:
                pass
            await trio.lowlevel.checkpoint()


def metrics_say_naps(metrics: Metrics) -> bool:
    return b"signal_gateway_loop_naps_total 0.0" not in metrics.text()
