"""Full collections of garbage: in quiet seconds, not too often, and in the end in any case. What they took is counted."""

import gc

import trio
from trio.testing import MockClock

from signal_gateway.observe.collector import (
    COLLECT_AT_LATEST_S,
    COLLECT_EVERY_S,
    QUIET_MESSAGES_PER_S,
    THRESHOLDS,
    QuietCollector,
    collector_settled,
    collector_watched,
)
from signal_gateway.observe.metrics import Metrics


class Collections:
    """When the collector was called, in seconds after the beginning."""

    def __init__(self) -> None:
        self._begun_at = trio.current_time()
        self.at: list[float] = []

    def __call__(self) -> None:
        self.at.append(round(trio.current_time() - self._begun_at))


async def test_a_quiet_gateway_collects_every_five_minutes(autojump_clock: MockClock, nursery: trio.Nursery):
    collections = Collections()
    await nursery.start(QuietCollector(Metrics().messages, collections).run)
    await trio.sleep(3 * COLLECT_EVERY_S + 0.5)
    assert collections.at == [300, 600, 900]
    nursery.cancel_scope.cancel()


async def test_a_busy_gateway_waits_for_a_quiet_second_but_not_for_ever(autojump_clock: MockClock, nursery: trio.Nursery):
    messages, collections = Metrics().messages, Collections()
    await nursery.start(QuietCollector(messages, collections).run)

    async def be_busy(seconds: float) -> None:
        for _ in range(int(4 * seconds)):
            for _ in range(QUIET_MESSAGES_PER_S):
                messages.add("in", "heartbeat")
            await trio.sleep(0.25)

    await be_busy(400)
    assert collections.at == []
    await trio.sleep(2.5)
    assert len(collections.at) == 1
    assert 400 < collections.at[0] <= 402
    await be_busy(COLLECT_AT_LATEST_S + 10)
    assert len(collections.at) == 2
    nursery.cancel_scope.cancel()


def test_runs_of_the_collector_are_counted_by_generation_with_their_pauses():
    metrics, ticks = Metrics(), iter([1.0, 1.25, 2.0, 2.5])
    was_on = gc.isenabled()
    gc.disable()
    try:
        with collector_watched(metrics, clock=lambda: next(ticks)):
            gc.collect(0)
            gc.collect(2)
    finally:
        if was_on:
            gc.enable()
    text = metrics.text().decode()
    assert 'signal_gateway_gc_runs_total{generation="0"} 1.0\n' in text
    assert 'signal_gateway_gc_runs_total{generation="2"} 1.0\n' in text
    assert "signal_gateway_gc_pause_seconds_sum 0.75\n" in text


def test_the_collector_is_watched_no_longer_than_asked():
    before = list(gc.callbacks)
    with collector_watched(Metrics()):
        assert len(gc.callbacks) == len(before) + 1
    assert gc.callbacks == before


def test_the_collector_runs_as_seldom_as_in_the_server_for_as_long_as_asked():
    before = gc.get_threshold()
    with collector_settled():
        assert gc.get_threshold() == THRESHOLDS
    assert gc.get_threshold() == before
