"""Full collections of garbage: in quiet seconds, not too often, and in the end in any case."""

import trio
from trio.testing import MockClock

from signal_gateway.observe.loop_health import COLLECT_AT_LATEST_S, COLLECT_EVERY_S, QUIET_MESSAGES_PER_S, QuietCollector
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
