"""Sessions of members who have gone are closed, a few at a time, with patience, and at the end of the server as far as there is time."""

import trio
from trio.testing import MockClock

from signal_gateway.domain.errors import MediaDown
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.media import MediaSession
from signal_gateway.services.media_closings import MediaClosings

from .media_made import FakeMedia


class Made:
    """Closings over a fake backend."""

    def __init__(self, waiting_max: int = 100, goodbye_s: float = 5.0) -> None:
        self.metrics = Metrics()
        self.media = FakeMedia()
        self.closings = MediaClosings(self.media, waiting_max, goodbye_s, self.metrics)

    def close_soon(self, *numbers: int) -> None:
        for number in numbers:
            self.closings.close_soon(MediaSession(session_id=f"s{number}"))

    def outcome(self, word: str) -> int:
        page = self.metrics.text().decode()
        return int(float(page.partition(f'media_closings_total{{outcome="{word}"}} ')[2].partition("\n")[0] or 0))


async def test_ten_are_closed_at_once_and_the_others_wait(autojump_clock: MockClock):
    made = Made()
    made.media.seconds = 1.0
    async with trio.open_nursery() as nursery:
        made.closings.begin(nursery)
        made.close_soon(*range(25))
        made.closings.close_soon(None)
        await trio.sleep(0.5)
        assert "signal_gateway_media_closings_waiting 15.0" in made.metrics.text().decode()
        await trio.sleep(10)
        assert [made.media.times("close").count(second) for second in (0.0, 1.0, 2.0)] == [10, 10, 5]
        assert made.outcome("closed") == 25
        nursery.cancel_scope.cancel()


async def test_one_that_cannot_be_closed_is_tried_four_times_and_then_left(autojump_clock: MockClock):
    made = Made()
    made.media.faults.extend([MediaDown()] * 4)
    async with trio.open_nursery() as nursery:
        made.closings.begin(nursery)
        made.close_soon(1)
        await trio.sleep(100)
        assert made.media.times("close") == [0, 2, 12, 42]
        assert (made.outcome("failed"), made.outcome("closed")) == (1, 0)
        made.close_soon(2)
        await trio.sleep(1)
        assert made.outcome("closed") == 1
        nursery.cancel_scope.cancel()


async def test_a_fault_of_ours_is_counted_and_hinders_no_other(autojump_clock: MockClock):
    made = Made()
    made.media.faults.extend([RuntimeError("a bug")] * 15)
    async with trio.open_nursery() as nursery:
        made.closings.begin(nursery)
        made.close_soon(*range(16))
        await trio.sleep(1)
        assert (made.outcome("failed"), made.outcome("closed"), made.metrics.errors.value("media")) == (15, 1, 15)
        nursery.cancel_scope.cancel()


async def test_more_than_may_wait_are_left_to_the_backend_and_counted(autojump_clock: MockClock):
    made = Made(waiting_max=3)
    made.close_soon(*range(5))
    assert (made.outcome("left"), made.metrics.limits.value("cloudflare.closings_max")) == (2, 2)


async def test_the_end_closes_those_who_sit_those_who_wait_and_those_that_were_being_closed(autojump_clock: MockClock):
    made = Made()
    made.media.faults.extend([MediaDown()] * 10)
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            made.closings.begin(nursery)
            made.close_soon(*range(12))
            await trio.sleep_forever()
    await made.closings.end([MediaSession(session_id="sitting")])
    first, last = made.media.done("close")[:10], made.media.done("close")[10:]
    assert sorted(first) == sorted(f"s{number}" for number in range(10))  # they wait for another attempt
    assert sorted(last) == sorted(["sitting", *(f"s{number}" for number in range(12))])


async def test_the_end_waits_for_so_long_and_no_longer(autojump_clock: MockClock):
    made = Made(goodbye_s=3.0)
    made.media.seconds = 60.0
    with trio.CancelScope() as ending:
        ending.cancel()
        await made.closings.end([MediaSession(session_id="sitting")])
    assert trio.current_time() == 3
    assert made.metrics.limits.value("cloudflare.goodbye_s") == 1
